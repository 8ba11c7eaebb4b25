//! `gitferry log`

use clap::Args;
use gitferry_engine::ledger::change::{Actor, ChangeHeader, RefEdit};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::ledger::log::{ChangeRow, Log as Changes};
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Show a repository's ledger, newest change first.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  gitferry log team/app --region eu-west-1 --limit 5")]
pub struct Log {
    /// Name or id of the repository.
    name: String,
    /// Region of the ledger.
    #[arg(long, value_name = "R")]
    region: String,
    /// Print one line of JSON per change.
    #[arg(long)]
    json: bool,
    /// Maximum number of changes to show; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    limit: u64,
    /// Maximum number of ref edits to show per change; 0 for all [default: 10, with --json 1000].
    #[arg(long, value_name = "N")]
    edits: Option<usize>,
}

/// A change with the edits to show.
struct Shown {
    row: ChangeRow,
    header: ChangeHeader,
    edits: Vec<RefEdit>,
}

impl Log {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let region = context.region(&self.region).await?;
        let item = region.repositories().get(&self.name).await?;
        let last = item.head.frontier.seq;
        let first =
            if self.limit == 0 { item.head.floor } else { last.saturating_sub(self.limit).max(item.head.floor) };
        let rows = region.reader().changes_above(&item, first).await?;
        let most = match self.edits {
            Some(0) => usize::MAX,
            Some(most) => most,
            None if self.json => 1_000,
            None => 10,
        };
        for row in rows.into_iter().rev() {
            let shown = read(region.log(), &item, row, most).await?;
            if self.json {
                output::json(&shown.as_json())?;
            } else {
                shown.print();
            }
        }
        Ok(Exit::Done)
    }
}

async fn read(log: Changes, item: &HeadItem, row: ChangeRow, most: usize) -> Result<Shown, Failure> {
    let id = item.id;
    let reading = tokio::task::spawn_blocking(move || {
        let mut edits = Vec::new();
        let header = log.read(id, &row, |_, edit| {
            if edits.len() < most {
                edits.push(edit);
            }
        })?;
        Ok::<_, gitferry_engine::ledger::LedgerError>(Shown { row, header, edits })
    });
    Ok(reading.await.map_err(std::io::Error::other)??)
}

impl Shown {
    fn as_json(&self) -> serde_json::Value {
        let header = &self.header;
        let actor = Actor::parse(&header.actor);
        let value = |value: &Option<gitferry_git::refs::RefValue>| value.as_ref().map(ToString::to_string);
        json!({
            "seq": header.seq,
            "hash": self.row.hash,
            "prev": header.prev,
            "epoch": header.epoch,
            "region": header.region,
            "time": header.time,
            "actor": actor.name(),
            "origin": actor.origin(),
            "name": header.name,
            "state": header.state,
            "head": header.head.as_ref().map(|edit| json!({ "old": value(&edit.old), "new": edit.new.to_string() })),
            "edits_total": header.edits,
            "edits": self.edits.iter().map(|edit| json!({
                "name": edit.name.to_string(), "old": value(&edit.old), "new": value(&edit.new),
            })).collect::<Vec<_>>(),
            "packs": header.packs.iter().map(|pack| json!({
                "id": pack.id.to_string(), "bytes": pack.bytes, "objects": pack.objects,
            })).collect::<Vec<_>>(),
            "refs_digest": header.digest,
        })
    }

    fn print(&self) {
        let header = &self.header;
        output::line(format!("change {} {}", header.seq, self.row.hash));
        output::line(format!("  time   {}", header.time));
        output::line(format!("  actor  {} in {} (epoch {})", header.actor, header.region, header.epoch));
        if let Some(name) = &header.name {
            output::line(format!("  name   {name}"));
        }
        if let Some(state) = &header.state {
            output::line(format!("  state  {state}"));
        }
        if let Some(head) = &header.head {
            output::line(format!("  HEAD   {}", head.new));
        }
        for pack in &header.packs {
            let objects = output::count(pack.objects.into(), "object");
            let bytes = output::bytes(pack.bytes);
            output::line(format!("  pack   {} ({objects}, {bytes})", pack.id));
        }
        for edit in &self.edits {
            output::line(format!("  {}", edit_text(edit)));
        }
        let more = header.edits.saturating_sub(self.edits.len() as u64);
        if more > 0 {
            output::line(format!("  … and {} (--edits 0 shows all)", output::count(more, "more edit")));
        }
        output::line("");
    }
}

fn edit_text(edit: &RefEdit) -> String {
    let short = |value: &gitferry_git::refs::RefValue| match value.object() {
        Some(id) => id.to_hex_with_len(12).to_string(),
        None => value.to_string(),
    };
    match (&edit.old, &edit.new) {
        (None, Some(new)) => format!("create {} {}", edit.name, short(new)),
        (Some(old), Some(new)) => format!("update {} {} → {}", edit.name, short(old), short(new)),
        (Some(old), None) => format!("delete {} {}", edit.name, short(old)),
        (None, None) => edit.name.to_string(),
    }
}
