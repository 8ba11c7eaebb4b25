//! `gitferry explain`

use clap::Args;
use gitferry_replication::mirror::explain::{Depth, Explained, Path};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::links::{self, AnyLink};
use super::output;
use super::replicate::print_notes;

/// Maximum number of refs that the text output lists; `--json` has more.
const MAX_PRINTED_REFS: usize = 40;

/// Show what the next pass over a link with a remote would do for a repository, and why. Changes nothing.
#[derive(Debug, Args)]
#[command(
    after_help = "Lists the refs of both servers, and asks the source which commits it has of those that would be
overwritten. To estimate its size, the first 16 MiB of the pack that a pass would send are read and
discarded; with --measure, all of it. If the link carries Git LFS, new objects are searched for
LFS pointers.

  create, update  the ref becomes what it is at the source
  force           commits made at the target are overwritten
  preserve        commits made at the target are first kept under refs/gitferry/diverged/
  delete          the source does not have the ref

Exit code 1 if a ref has diverged and is left alone, or if the source is empty.

Example:
  gitferry explain cc team/app
  gitferry explain cc team/app --measure
  gitferry explain cc team/app --json"
)]
pub struct Explain {
    /// Link with a remote at one end or both.
    link: String,
    /// Name of the repository.
    name: String,
    /// Read the whole pack for its exact size. This costs the source as much as a pass.
    #[arg(long)]
    measure: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let link = match links::open_any(&config, &self.link, false).await? {
            AnyLink::Mirror(link) => link,
            AnyLink::Regions(link) => {
                let hint = format!("`gitferry status {}` shows the pending changes of each repository", self.link);
                let text = format!("link {} is between regions: a pass copies the pending changes", link.name);
                return Err(Failure::usage(text).hint(hint));
            }
        };
        let depth = if self.measure { Depth::Whole } else { Depth::Pack };
        let explained = link.explain(&self.name, depth).await?;
        if self.json {
            output::json(&explained)?;
        } else {
            print(&explained);
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
            (None, at_least) => format!("over {} (--measure reads all of it)", output::bytes(at_least.unwrap_or(0))),
        };
        output::line(format!("  pack    {}, {bytes}", output::count(objects, "object")));
    }
    if let Some(lfs) = &explained.lfs {
        output::line(format!(
            "  lfs     {} of {} ({} of {}) to copy",
            lfs.lacking,
            output::count(lfs.objects, "object"),
            output::bytes(lfs.lacking_bytes),
            output::bytes(lfs.bytes),
        ));
    }
    for step in explained.refs.iter().take(MAX_PRINTED_REFS) {
        let short = |id: &Option<String>| id.as_ref().map_or("-".into(), |id| id.chars().take(12).collect::<String>());
        output::line(format!("  {:<8}{} {} → {}", step.action, step.name, short(&step.old), short(&step.new)));
    }
    let more = explained.refs.len().saturating_sub(MAX_PRINTED_REFS) as u64 + explained.more;
    if more > 0 {
        output::line(format!("  and {}", output::count(more, "more ref")));
    }
    print_notes(&explained.skip);
}
