//! The command line: arguments in, a call into the library, text or JSON out. Nothing else.

mod backup;
mod config;
mod context;
mod demo;
mod events;
mod explain;
mod export;
mod failure;
mod health;
mod import;
mod init;
mod lambda;
mod links;
mod log;
mod logging;
mod maintain;
mod metrics;
mod output;
mod region;
mod repair;
mod replicas;
mod replicate;
mod repo;
mod shell;
mod signals;
mod status;
mod up;
mod verify;
mod worker;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::Context;
use failure::{Exit, Failure};
use logging::LogFormat;

const AFTER_HELP: &str = "Exit codes:
  0  done
  1  found a difference: a fork, a failed verification
  2  the request is not valid as it stands: arguments, configuration, names, refused by a rule
  3  failed; nothing half-done is visible, and running the same command again is safe

Example:
  gitferry init
  gitferry import /srv/git/app.git team/app --region us-east-1
  gitferry replicate dr
  gitferry verify dr --deep

Logs go to standard error; GITFERRY_LOG=info shows more, --log-format json for machines.";

/// Keeps Git repositories identical across regions.
#[derive(Debug, Parser)]
#[command(name = "gitferry", version = env!("GITFERRY_VERSION"), after_help = AFTER_HELP, max_term_width = 100)]
struct Arguments {
    /// The configuration file [default: gitferry.toml]. Without one, GITFERRY_CONFIG_TOML may hold its text.
    #[arg(long, global = true, env = "GITFERRY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the log on standard error is written.
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

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse_from(command_line());
    // A function is stopped between two events.
    let log = logging::start(arguments.log_format, matches!(arguments.command, Command::Lambda(_)));
    // The one provider of cryptography for all TLS; that it is there already is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let _scenario = fail::FailScenario::setup();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report(),
    };
    let context = Context::find(arguments.config);
    // What runs without end ends by itself, and lets go of its work before.
    let ends_itself = matches!(arguments.command, Command::Up(_) | Command::Worker(_) | Command::Lambda(_));
    let result = runtime.block_on(async {
        tokio::select! {
            result = dispatch(arguments.command, &context) => result,
            _ = tokio::signal::ctrl_c(), if !ends_itself => Err(Failure::interrupted()),
        }
    });
    gitferry_store::table::sqlite::put_all_at_rest();
    // The process ends with the runtime as it is: blocking work that is still under way must not hold it, and tasks
    // that run while a runtime is shut down panic when they ask it for a timer or a thread.
    std::mem::forget(runtime);
    log.flush();
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

/// The arguments; Lambda starts the file `bootstrap` without any.
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
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    }
}
