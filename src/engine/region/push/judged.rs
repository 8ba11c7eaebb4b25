//! [`Judged`]: a push with the results of its checks.

use std::collections::HashMap;

use gix::ObjectId;

use super::decide::Fact;
use super::quota::Reserved;
use super::rejection::{Refused, Rejection};
use crate::region::new_pack::NewPack;
use gitferry_base::printable::Printable;
use gitferry_git::fsck::{self, Severity};
use gitferry_git::lfs::Pointer;
use gitferry_git::receive_pack::PlaceInPush;

/// Most findings that are reported to a client.
pub(super) const MAX_REPORTED_FINDINGS: usize = 20;

/// Places of objects in a push.
pub(super) type Places = HashMap<ObjectId, PlaceInPush>;

/// Result of judging a push.
#[derive(Debug)]
pub struct Judged {
    /// One fact for each command.
    pub facts: Vec<Fact>,
    /// The pack, in quarantine.
    pub(crate) pack: Option<NewPack>,
    /// LFS pointers in blobs that are new to the client: sorted, each once.
    pub(crate) pointers: Vec<Pointer>,
    /// Error that concerns the pack as a whole.
    pub unpack: std::result::Result<(), String>,
    /// Messages for the client's user.
    pub messages: Vec<String>,
    /// Room for the pack, if quotas limit it.
    pub reserved: Option<Reserved>,
}

impl Judged {
    /// A push with the first facts about its commands, before its pack is received.
    pub(super) fn new(facts: Vec<Fact>) -> Self {
        Judged { facts, pack: None, pointers: Vec::new(), unpack: Ok(()), messages: Vec::new(), reserved: None }
    }

    /// Refuses all commands because of the pack.
    pub(super) fn refuse_all(&mut self, rejection: Rejection, reason: String) {
        self.unpack = Err(reason);
        self.pack = None;
        for fact in &mut self.facts {
            fact.refused = Some(Refused::new(rejection, "unpacker error"));
        }
    }

    /// Reports malformed objects with their places in the push. Fails if they refuse the push.
    pub(super) fn report_findings(
        &mut self,
        report: &fsck::Report,
        places: &Places,
    ) -> std::result::Result<(), String> {
        for finding in report.findings.iter().take(MAX_REPORTED_FINDINGS) {
            let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
            let place = places.get(&finding.id).map(|place| format!("; it is {}", Printable(place)));
            self.messages.push(format!("{severity}: {finding}{}", place.unwrap_or_default()));
        }
        if report.errors == 0 {
            return Ok(());
        }
        let first = report.findings.iter().find(|finding| finding.severity == Severity::Error);
        let first = first.map_or_else(|| "objects are malformed".to_owned(), ToString::to_string);
        let more = match report.errors - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Err(format!("{first}{more}"))
    }
}
