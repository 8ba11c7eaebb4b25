//! `gitferry init`

use std::path::{Path, PathBuf};

use clap::Args;
use gitferry_config::{Config, DEFAULT_FILE};

use super::failure::{Exit, Failure};
use super::{output, region};

const TEMPLATE: &str = include_str!("init.toml");

/// Write a ready-to-use configuration of two local regions and a link, and create the regions.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  gitferry init --dir /srv/gitferry && cd /srv/gitferry
  gitferry import /srv/git/app.git app --region us-east-1
  gitferry replicate dr")]
pub struct Init {
    /// Folder for gitferry.toml and the regions' state, created if missing.
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
}

impl Init {
    pub async fn run(self) -> Result<Exit, Failure> {
        let path = make(&self.dir).await?;
        let flag = if self.dir.as_os_str() == "." { String::new() } else { format!(" --config {}", path.display()) };
        output::line(format!(
            "wrote {}: regions us-east-1 and eu-west-1, and link dr from us-east-1 to eu-west-1",
            path.display()
        ));
        output::line("next:");
        output::line(format!("  gitferry{flag} import PATH-OF-A-GIT-REPOSITORY NAME --region us-east-1"));
        output::line(format!("  gitferry{flag} replicate dr"));
        Ok(Exit::Done)
    }
}

/// Writes the configuration into a folder, initializes its regions, and returns its path.
pub async fn make(dir: &Path) -> Result<PathBuf, Failure> {
    let path = write(dir)?;
    region::init_all(&Config::load(&path)?).await?;
    Ok(path)
}

/// Writes the configuration into a folder and returns its path.
fn write(dir: &Path) -> Result<PathBuf, Failure> {
    use std::io::Write as _;
    std::fs::create_dir_all(dir)
        .map_err(|error| Failure::from(error).about(&format!("cannot create the folder {}", dir.display())))?;
    let path = dir.join(DEFAULT_FILE);
    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let mut file = created.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("the configuration {} already exists", path.display()))
                .hint("use it as it is, remove it first, or choose another folder with --dir")
        }
        _ => Failure::from(error).about(&format!("cannot create {}", path.display())),
    })?;
    file.write_all(TEMPLATE.as_bytes())
        .map_err(|error| Failure::from(error).about(&format!("cannot write {}", path.display())))?;
    Ok(path)
}
