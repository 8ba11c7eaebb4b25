//! `gitferry explain`

use clap::Args;
use gitferry_replication::AnyLink;
use gitferry_replication::remotes::explain::{Depth, Explained, Path};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use super::replicate::print_notes;

/// Refs that are printed one by one; `--json` has more.
const SHOWN_REFS: usize = 40;

/// Tell what the next pass over a link with a remote would do for a repository, and why. Changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Both servers are asked for their refs, and the source for what it has of what would be
overwritten. The pack that a pass would send is read as far as its first 16 MiB, to tell how
large it is, and thrown away; with --measure all of it. Where the link carries Git LFS, what is
new is looked through for pointers, too.

  create, update  the ref becomes what it is at the source
  force           what it names now was made at the target, and is overwritten
  preserve        what was made at the target is kept under refs/gitferry/diverged/ first
  delete          the source does not have it

Exit code 1 when a ref has diverged and is left alone, or the source is empty.

Example:
  gitferry explain cc team/app
  gitferry explain cc team/app --measure
  gitferry explain cc team/app --json")]
pub struct Explain {
    /// The link.
    link: String,
    /// The repository.
    name: String,
    /// Read all that would be sent, to tell its bytes exactly: that costs the source what a pass does.
    #[arg(long)]
    measure: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let link = match context.any_link(&config, &self.link, false).await? {
            AnyLink::Remote(link) => link,
            AnyLink::Regions(link) => {
                let hint = format!("`gitferry status {}` tells how the repositories stand", self.link);
                let text = format!("link {} is between regions: a pass copies the changes that are pending", link.name);
                return Err(Failure::usage(text).hint(hint));
            }
        };
        let depth = if self.measure { Depth::Whole } else { Depth::Pack };
        let explained = link.explain(&self.name, depth).await?;
        match self.json {
            true => output::json(&explained)?,
            false => print(&explained),
        }
        let refuses = explained.path == Path::Refused || explained.leaves_diverged();
        Ok(if refuses { Exit::Difference } else { Exit::Done })
    }
}

fn print(explained: &Explained) {
    let Explained { repository, source, target, why, .. } = explained;
    output::line(format!("{repository}: {source} → {target}"));
    let path = match explained.path {
        Path::None => "no objects",
        Path::PassThrough => "pass-through",
        Path::Full => "pass-through of everything",
        Path::Region => "through a region",
        Path::Refused => "refused",
    };
    output::line(format!("  path    {path}: {why}"));
    let counts = [
        (explained.create, "to create"),
        (explained.update, "to update"),
        (explained.force, "to force"),
        (explained.preserve, "to preserve"),
        (explained.delete, "to delete"),
        (explained.skip.refs.len() as u64 + explained.skip.more, "to skip"),
        (explained.equal, "equal"),
    ];
    let counts = counts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}"));
    output::line(format!("  refs    {}", counts.collect::<Vec<String>>().join(", ")));
    if let Some(objects) = explained.objects {
        let bytes = match (explained.bytes, explained.bytes_at_least) {
            (Some(bytes), _) => output::bytes(bytes),
            (None, at_least) => format!("more than {}: --measure tells", output::bytes(at_least.unwrap_or(0))),
        };
        output::line(format!("  pack    {}, {bytes}", output::count(objects, "object")));
    }
    if let Some(lfs) = &explained.lfs {
        output::line(format!(
            "  lfs     {} of {} ({} of {}) to bring",
            lfs.lacking,
            output::count(lfs.objects, "object"),
            output::bytes(lfs.lacking_bytes),
            output::bytes(lfs.bytes),
        ));
    }
    for step in explained.refs.iter().take(SHOWN_REFS) {
        let short = |id: &Option<String>| id.as_ref().map_or("-".into(), |id| id.chars().take(12).collect::<String>());
        output::line(format!("  {:<8}{} {} → {}", step.action, step.name, short(&step.old), short(&step.new)));
    }
    let more = explained.refs.len().saturating_sub(SHOWN_REFS) as u64 + explained.more;
    if more > 0 {
        output::line(format!("  and {}", output::count(more, "more ref")));
    }
    print_notes(&explained.skip);
}
