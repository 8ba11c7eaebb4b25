//! A backup job: replicate, verify, and sign off what the target holds in a manifest of frontiers.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::worker::metrics::Figures;
use gitferry_engine::ledger::advance::read_head;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::verify::Verified;
use gitferry_git::pack::CheckProgress;
use gitferry_replication::ReplicationError;
use gitferry_replication::deliver::Link;
use gitferry_replication::error::InRegion as _;
use gitferry_replication::pass::Summary;
use gitferry_replication::status::{FrontierText, RepositoryStatus};
use gitferry_replication::verified::Verified as VerifiedTimes;
use gitferry_store::table::TableError;

/// The version of the manifest.
const FORMAT: &str = "gitferry-backup 1";
/// What stands between the rest of a manifest and its checksum.
const SEAL: &str = ",\"sha256\":\"";
/// What follows the checksum.
const END: &str = "\"}";

/// How to back up.
#[derive(Clone, Copy, Debug)]
pub struct BackupOptions {
    /// Repositories to work on at a time.
    pub jobs: usize,
    /// Hash all packs and walk all objects of the target.
    pub deep: bool,
    /// The oldest that a committed change may be which the target lacks.
    pub max_age: SignedDuration,
}

/// What the target holds, and how far it is behind.
#[derive(Debug, Serialize)]
pub struct Manifest {
    /// Names this form.
    pub format: &'static str,
    /// When it was made.
    pub made: Timestamp,
    /// The link.
    pub link: String,
    /// The region that was backed up.
    pub source: String,
    /// The region that holds the backup.
    pub target: String,
    /// Whether every object was hashed.
    pub deep: bool,
    /// Whether nothing stands against it: every repository verified, none too old.
    pub ok: bool,
    /// Age of the oldest committed change that the target lacks, in seconds; 0 when it lacks none.
    pub recovery_point_seconds: f64,
    /// The most that it may be.
    pub max_age_seconds: f64,
    /// What is wrong, in words.
    pub findings: Vec<String>,
    /// One entry for each repository, by name.
    pub repositories: Vec<Backed>,
}

/// One repository of a backup.
#[derive(Debug, Serialize)]
pub struct Backed {
    /// Its name.
    pub repository: String,
    /// Its id.
    pub id: String,
    /// `equal`, `behind`, `ahead`, `fork`, `damaged` or `unknown`.
    pub standing: &'static str,
    /// The exact state that the target holds and that was verified; `None` when it holds nothing yet.
    pub frontier: Option<FrontierText>,
    /// The source's state when it was compared; `None` where that cannot be read.
    pub source: Option<FrontierText>,
    /// Age of the oldest change that the target lacks, in seconds.
    pub lag_seconds: f64,
    /// Whether what the target holds was verified and sound, as far as `proof` goes.
    pub verified: bool,
    /// What `verified` rests on; `None` where the target holds nothing, or could not be read.
    pub proof: Option<Proof>,
}

/// What a verification has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The ledger and refs; of packs and LFS objects, that they are there with their sizes. Their bytes were not read.
    Presence,
    /// Every byte of packs and LFS objects, and that all refs have all that they need.
    Deep,
}

/// A finished backup.
#[derive(Debug)]
pub struct Backup {
    /// What was replicated.
    pub summary: Summary,
    /// What the target holds.
    pub manifest: Manifest,
    /// Since when the repository of the target has not been verified that has waited longest.
    pub unverified_since: Option<Timestamp>,
    /// Damaged packs that are set aside in both regions after it.
    pub packs_aside: u64,
}

impl Backup {
    /// Whether the recovery point is older than it may be.
    pub fn is_too_old(&self) -> bool {
        self.manifest.recovery_point_seconds > self.manifest.max_age_seconds
    }

    /// What its metrics say.
    pub fn figures(&self) -> Figures {
        let Backup { summary, manifest, unverified_since, packs_aside } = self;
        let standing = |standing| manifest.repositories.iter().filter(|one| one.standing == standing).count() as u64;
        let age = |since: Timestamp| manifest.made.duration_since(since).as_secs_f64().max(0.0);
        Figures {
            link: manifest.link.clone(),
            lag_seconds: manifest.recovery_point_seconds,
            pending: standing("behind"),
            delivered: summary.delivered,
            failed: summary.failed,
            failing: summary.failed,
            forks: standing("fork"),
            oldest_unverified_seconds: unverified_since.map(age),
            packs_aside: Some(*packs_aside),
            recovery_point_age_seconds: Some(manifest.recovery_point_seconds),
            ..Figures::default()
        }
    }
}

/// Replicates, verifies the target, and says how far it is behind.
pub async fn backup(link: &Link, options: BackupOptions) -> Result<Backup, ReplicationError> {
    let summary = link.pass(&[], options.jobs).await?;
    let mut findings = link.strays().await?;
    let mut repositories = Vec::new();
    for status in link.status().await? {
        repositories.push(verify(link, status, options.deep, &mut findings).await);
    }
    for report in &summary.reports {
        findings.extend(report.error.as_ref().map(|error| format!("{}: not replicated: {error}", report.repository)));
    }
    let recovery_point = repositories.iter().map(|backed| backed.lag_seconds).fold(0.0, f64::max);
    let max_age = options.max_age.as_secs_f64();
    if recovery_point > max_age {
        findings
            .push(format!("a change committed {recovery_point:.0} s ago is not in the target; at most {max_age:.0} s"));
    }
    let manifest = Manifest {
        format: FORMAT,
        made: link.target.clock.now(),
        link: link.name.clone(),
        source: link.source.name.clone(),
        target: link.target.name.clone(),
        deep: options.deep,
        ok: findings.is_empty(),
        recovery_point_seconds: recovery_point,
        max_age_seconds: max_age,
        findings,
        repositories,
    };
    let unverified_since = note_verified(link, &manifest).await.in_region(&link.target)?;
    let packs_aside = link.packs_aside().await?;
    Ok(Backup { summary, manifest, unverified_since, packs_aside })
}

/// Keeps when the sound ones were verified; since when the one has not been that has waited longest.
async fn note_verified(link: &Link, manifest: &Manifest) -> Result<Option<Timestamp>, TableError> {
    let held = manifest.repositories.iter().filter(|one| one.frontier.is_some());
    let held = held.filter_map(|one| Some((one.id.parse::<RepositoryId>().ok()?, one.verified)));
    let (sound, others): (Vec<_>, Vec<_>) = held.partition(|(_, verified)| *verified);
    let verified = VerifiedTimes::new(&link.target, &link.name);
    verified.note(&sound.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await?;
    let now = (!sound.is_empty()).then_some(manifest.made);
    if others.is_empty() {
        return Ok(now);
    }
    let before = verified.read().await?;
    let since = others.iter().filter_map(|(id, _)| before.get(id).copied().or_else(|| id.made()));
    Ok(since.chain(now).min())
}

/// Verifies what the target holds of one repository. A failure is a finding: the others are verified all the same.
async fn verify(link: &Link, status: RepositoryStatus, deep: bool, findings: &mut Vec<String>) -> Backed {
    let name = &status.repository;
    let before = findings.len();
    if matches!(status.standing, "fork" | "damaged" | "unknown") {
        let reason = status.last_error.as_deref().unwrap_or("no reason given");
        findings.push(format!("{name}: {}: {reason}", status.standing));
    }
    if status.waits_for_name {
        let region = &link.target.name;
        findings.push(format!("{name}: another repository of {region} holds this name; reachable as {}", status.id));
    }
    let frontier = match verify_target(link, &status, deep).await {
        Ok(None) => None,
        Ok(Some(verified)) => {
            findings.extend(verified.findings.iter().map(|finding| format!("{name}: {finding}")));
            Some(verified.frontier.into())
        }
        Err(error) => {
            findings.push(format!("{name}: not verified: {error}"));
            None
        }
    };
    Backed {
        repository: status.repository,
        id: status.id,
        standing: status.standing,
        verified: frontier.is_some() && findings.len() == before,
        proof: frontier.is_some().then_some(if deep { Proof::Deep } else { Proof::Presence }),
        frontier,
        source: status.source,
        lag_seconds: status.lag_seconds,
    }
}

/// `None` where the target holds nothing of the repository.
async fn verify_target(
    link: &Link,
    status: &RepositoryStatus,
    deep: bool,
) -> Result<Option<Verified>, ReplicationError> {
    let id: Option<RepositoryId> = status.id.parse().ok();
    let (Some(id), true) = (id, status.target.is_some()) else { return Ok(None) };
    let Some(item) = read_head(&*link.target.table, id).await.in_region(&link.target)? else { return Ok(None) };
    let progress = Arc::new(CheckProgress::default());
    link.target.verify(&item, deep, progress).await.map(Some).in_region(&link.target)
}

/// Why a text is not a manifest that can be relied on.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It is no manifest.
    #[error("this is not a backup manifest: {0}")]
    NotAManifest(String),
    /// It is not what was signed off.
    #[error("the manifest says its SHA-256 is {claimed}, but it is {actual}: it was changed")]
    Changed {
        /// What it says.
        claimed: String,
        /// What it is.
        actual: String,
    },
}

impl Manifest {
    /// Its text: one line of JSON, the last field of which is the SHA-256 of that line without the field.
    pub fn seal(&self) -> Result<String, serde_json::Error> {
        let text = serde_json::to_string(self)?;
        let body = text.strip_suffix('}').unwrap_or(&text);
        Ok(format!("{body}{SEAL}{}{END}\n", hex::encode(Sha256::digest(&text))))
    }
}

/// Checks that a manifest is what was signed off; what it says.
pub fn check_seal(text: &str) -> Result<Value, SealError> {
    let not = |reason: &str| SealError::NotAManifest(reason.into());
    let line = text.strip_suffix('\n').unwrap_or(text);
    let (body, claimed) = line
        .rsplit_once(SEAL)
        .and_then(|(body, rest)| Some((body, rest.strip_suffix(END)?)))
        .ok_or_else(|| not("it does not end with its SHA-256"))?;
    let text = format!("{body}}}");
    let actual = hex::encode(Sha256::digest(&text));
    if actual != claimed {
        return Err(SealError::Changed { claimed: claimed.into(), actual });
    }
    let value: Value = serde_json::from_str(&text).map_err(|error| not(&error.to_string()))?;
    match value.get("format").and_then(Value::as_str) {
        Some(FORMAT) => Ok(value),
        _ => Err(not("its format is another")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            made: Timestamp::UNIX_EPOCH,
            link: "dr".into(),
            source: "us-east-1".into(),
            target: "eu-west-1".into(),
            deep: false,
            ok: true,
            recovery_point_seconds: 0.0,
            max_age_seconds: 900.0,
            findings: Vec::new(),
            repositories: Vec::new(),
        }
    }

    #[test]
    fn a_manifest_vouches_for_itself() {
        let text = manifest().seal().unwrap();
        assert_eq!(check_seal(&text).unwrap()["link"], "dr");
        for (from, to) in [("\"dr\"", "\"dx\""), ("900", "901"), ("true", "tru"), ("\"}\n", "\"\n")] {
            assert!(text.contains(from));
            check_seal(&text.replacen(from, to, 1)).unwrap_err();
        }
        assert!(matches!(check_seal("{}"), Err(SealError::NotAManifest(_))));
    }
}
