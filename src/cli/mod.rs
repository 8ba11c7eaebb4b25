//! The command line. Each command parses its arguments, calls the library, and prints text or JSON.

mod account_feed;
mod apis;
mod audit;
mod aws_identities;
mod backup;
mod config;
mod context;
mod credential;
mod demo;
mod events;
mod explain;
mod export;
mod failure;
mod garbage;
mod health;
mod hosts;
mod iam;
mod import;
mod init;
mod lambda;
mod late;
mod links;
mod log;
mod logging;
mod maintain;
mod metrics;
mod output;
mod places;
mod region;
mod region_tasks;
mod reload;
mod repair;
mod replicas;
mod replicate;
mod repo;
mod repo_encryption;
mod shell;
mod signals;
mod status;
#[cfg(test)]
mod tests;
mod up;
mod usage;
mod verify;
mod worker;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use context::Context;
use failure::{Exit, Failure};
use logging::LogFormat;

const AFTER_HELP: &str = "Exit codes:
  0  done
  1  found a difference: a fork, a failed verification
  2  the request is not valid: arguments, configuration, an unknown name, or a rule forbids it
  3  failed; nothing half-done is visible, and running the same command again is safe

Example:
  gitferry init
  gitferry import /srv/git/app.git team/app --region us-east-1
  gitferry replicate dr
  gitferry verify dr --deep

Logs go to standard error. GITFERRY_LOG=info logs more, --log-format json writes JSON lines.";

/// Keeps Git repositories identical across regions.
#[derive(Debug, Parser)]
#[command(name = "gitferry", version = env!("GITFERRY_VERSION"), after_help = AFTER_HELP, max_term_width = 100)]
struct Arguments {
    /// Configuration file [default: gitferry.toml]. Without it, GITFERRY_CONFIG_TOML may hold the configuration itself.
    #[arg(long, global = true, env = "GITFERRY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Format of the log on standard error.
    #[arg(long, global = true, env = "GITFERRY_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    #[command(subcommand)]
    Config(config::Config),
    #[command(subcommand)]
    Region(region::RegionCommand),
    #[command(subcommand)]
    Repo(repo::Repo),
    #[command(subcommand)]
    Iam(iam::Iam),
    Credential(credential::Credential),
    Import(import::Import),
    Replicate(replicate::Replicate),
    Status(status::Status),
    Explain(explain::Explain),
    Log(log::Log),
    Verify(verify::Verify),
    Repair(repair::Repair),
    Export(export::Export),
    Demo(demo::Demo),
    Up(up::Up),
    Worker(worker::WorkerCommand),
    Lambda(lambda::Lambda),
    Backup(backup::BackupCommand),
    Health(health::Health),
    Maintain(maintain::Maintain),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Runs the command that the process was started with, and returns its exit code.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse_from(command_line());
    // Lambda freezes the process between two events: log lines must not wait for a background thread.
    let log = logging::start(arguments.log_format, matches!(arguments.command, Command::Lambda(_)));
    // One cryptography provider for all TLS of the process; an error only says that it is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let _scenario = fail::FailScenario::setup();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report(),
    };
    let context = Context::find(arguments.config);
    // Long-running commands handle Ctrl-C themselves: they let running work end first.
    let handles_signals = matches!(arguments.command, Command::Up(_) | Command::Worker(_) | Command::Lambda(_));
    let result = runtime.block_on(async {
        tokio::select! {
            result = dispatch(arguments.command, &context) => result,
            _ = tokio::signal::ctrl_c(), if !handles_signals => Err(Failure::interrupted()),
        }
    });
    gitferry_store::table::sqlite::checkpoint_all();
    // The runtime is leaked on purpose: shutting it down waits for blocking work, and tasks that ask for a timer or a
    // thread meanwhile panic.
    std::mem::forget(runtime);
    log.flush();
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

/// Returns the arguments. Lambda starts the file `bootstrap` without any: that runs `gitferry lambda`.
fn command_line() -> Vec<OsString> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().map(|program| Path::new(program).file_name() == Some(OsStr::new("bootstrap")));
    if name == Some(true) && arguments.len() == 1 {
        arguments.push("lambda".into());
    }
    arguments
}

async fn dispatch(command: Command, context: &Context) -> Result<Exit, Failure> {
    match command {
        Command::Init(command) => command.run().await,
        Command::Region(command) => command.run(context).await,
        Command::Repo(command) => command.run(context).await,
        Command::Iam(command) => command.run(context).await,
        Command::Credential(command) => command.run().await,
        Command::Import(command) => command.run(context).await,
        Command::Replicate(command) => command.run(context).await,
        Command::Status(command) => command.run(context).await,
        Command::Explain(command) => command.run(context).await,
        Command::Log(command) => command.run(context).await,
        Command::Verify(command) => command.run(context).await,
        Command::Repair(command) => command.run(context).await,
        Command::Export(command) => command.run(context).await,
        Command::Demo(command) => command.run().await,
        Command::Up(command) => command.run(context).await,
        Command::Worker(command) => command.run(context).await,
        Command::Lambda(command) => command.run(context).await,
        Command::Backup(command) => command.run(context).await,
        Command::Health(command) => command.run().await,
        Command::Config(command) => command.run(context),
        Command::Maintain(command) => command.run(context).await,
        Command::Completions(command) => command.run(Arguments::command()),
        Command::Man(command) => command.run(Arguments::command()),
    }
}
