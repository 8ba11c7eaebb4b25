//! `gitferry completions` and `gitferry man`

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::{Exit, Failure};
use super::output;

/// Print shell completions.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  gitferry completions bash > /etc/bash_completion.d/gitferry
  gitferry completions zsh > ~/.zfunc/_gitferry
  gitferry completions fish > ~/.config/fish/completions/gitferry.fish")]
pub struct Completions {
    /// Shell to complete for.
    shell: Shell,
}

impl Completions {
    /// Prints the completions of `command`, the whole command line.
    pub fn run(self, mut command: Command) -> Result<Exit, Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, "gitferry", &mut text);
        print(&text)
    }
}

/// Print the manual page, or write one page per command into a folder.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  gitferry man | man -l -
  gitferry man --dir /usr/local/share/man/man1")]
pub struct Man {
    /// Write gitferry.1, gitferry-init.1 and so on into this folder, which is created if missing.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    /// Writes the manual of `command`, the whole command line.
    pub fn run(self, command: Command) -> Result<Exit, Failure> {
        match self.dir {
            Some(dir) => {
                let about = |error| Failure::from(error).about(&format!("cannot write to {}", dir.display()));
                std::fs::create_dir_all(&dir).map_err(about)?;
                clap_mangen::generate_to(command, &dir).map_err(about)?;
                output::line(format!("wrote gitferry.1 and one page per command to {}", dir.display()));
                Ok(Exit::Done)
            }
            None => {
                let mut text = Vec::new();
                clap_mangen::Man::new(command).render(&mut text)?;
                print(&text)
            }
        }
    }
}

/// Writes to standard output. A closed pipe is no error.
fn print(text: &[u8]) -> Result<Exit, Failure> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Done),
    }
}
