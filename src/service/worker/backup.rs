//! The backup job: replicate, verify, and sign a manifest of the frontiers that the target holds.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::delivery::request::PassRequest;
use crate::delivery::run;
use crate::worker::metrics::LinkMetrics;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::region::verify::Verified;
use gitferry_git::pack::CheckProgress;
use gitferry_replication::ReplicationError;
use gitferry_replication::error::InRegion as _;
use gitferry_replication::link::Link;
use gitferry_replication::pass::Summary;
use gitferry_replication::status::{FrontierText, RepositoryStatus};
use gitferry_replication::verified::Verified as VerifiedTimes;
use gitferry_store::table::TableError;

/// Name and version of the format.
const FORMAT: &str = "gitferry-backup 1";
/// Text between the rest of a manifest and its checksum.
const SEAL: &str = ",\"sha256\":\"";
/// Text after the checksum.
const END: &str = "\"}";

/// Settings of a backup.
#[derive(Clone, Copy, Debug)]
pub struct BackupOptions {
    /// Repositories to work on at a time.
    pub jobs: usize,
    /// Hash all packs and walk all objects of the target.
    pub deep: bool,
    /// Oldest age of a committed change that the target may lack.
    pub max_age: SignedDuration,
}

/// Manifest of a backup: the frontiers of the target, and its recovery point.
#[derive(Debug, Serialize)]
pub struct Manifest {
    /// Name and version of this format.
    pub format: &'static str,
    /// Time at which the manifest was made.
    pub made: Timestamp,
    /// Name of the link.
    pub link: String,
    /// The region that was backed up.
    pub source: String,
    /// The region that holds the backup.
    pub target: String,
    /// True if every object was hashed.
    pub deep: bool,
    /// True if there is no finding: every repository verified, none too old.
    pub ok: bool,
    /// Age of the oldest committed change that the target lacks, in seconds; 0 when it lacks none.
    pub recovery_point_seconds: f64,
    /// Limit of `recovery_point_seconds`.
    pub max_age_seconds: f64,
    /// Faults, in words.
    pub findings: Vec<String>,
    /// One entry for each repository, by name.
    pub repositories: Vec<Backed>,
}

/// One repository of a backup.
#[derive(Debug, Serialize)]
pub struct Backed {
    /// Name of the repository.
    pub repository: String,
    /// Id of the repository.
    pub id: String,
    /// `equal`, `behind`, `ahead`, `fork`, `damaged` or `unknown`.
    pub standing: &'static str,
    /// The verified state of the target; `None` where it holds nothing yet.
    pub frontier: Option<FrontierText>,
    /// State of the source at the comparison; `None` where it cannot be read.
    pub source: Option<FrontierText>,
    /// Age of the oldest change that the target lacks, in seconds.
    pub lag_seconds: f64,
    /// True if the repository of the target is sound, as far as `proof` goes.
    pub verified: bool,
    /// Extent of the verification; `None` where the target holds nothing, or could not be read.
    pub proof: Option<Proof>,
}

/// Extent of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The ledger, the refs, and the presence and sizes of packs and LFS objects. Their bytes were not read.
    Presence,
    /// Every byte of packs and LFS objects, and that every ref has all objects that it reaches.
    Deep,
}

/// A finished backup.
#[derive(Debug)]
pub struct Backup {
    /// Summary of the replication.
    pub summary: Summary,
    /// Manifest of the target.
    pub manifest: Manifest,
    /// Oldest of the last verifications of the target's repositories.
    pub unverified_since: Option<Timestamp>,
    /// Damaged packs that are set aside in both regions.
    pub packs_aside: u64,
}

impl Backup {
    /// Returns true if the recovery point is older than allowed.
    pub fn is_too_old(&self) -> bool {
        self.manifest.recovery_point_seconds > self.manifest.max_age_seconds
    }

    /// Metrics of the backup.
    pub fn metrics(&self) -> LinkMetrics {
        let Backup { summary, manifest, unverified_since, packs_aside } = self;
        let standing = |standing| manifest.repositories.iter().filter(|one| one.standing == standing).count() as u64;
        let age = |since: Timestamp| manifest.made.duration_since(since).as_secs_f64().max(0.0);
        LinkMetrics {
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
            ..LinkMetrics::default()
        }
    }
}

/// Replicates over a link, verifies the target, and measures its recovery point.
pub async fn backup(link: &Link, options: BackupOptions) -> Result<Backup, ReplicationError> {
    let summary = run::pass(link, &PassRequest { names: &[], hint: None, concurrency: options.jobs }).await?;
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
        made: link.target.clock().now(),
        link: link.name.clone(),
        source: link.source.name().to_owned(),
        target: link.target.name().to_owned(),
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

/// Notes the verification of sound repositories. Returns the oldest of the last verifications.
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

/// Verifies one repository of the target. A failure is a finding, and the others are verified all the same.
async fn verify(link: &Link, status: RepositoryStatus, deep: bool, findings: &mut Vec<String>) -> Backed {
    let name = &status.repository;
    let before = findings.len();
    if matches!(status.standing, "fork" | "damaged" | "unknown") {
        let reason = status.last_error.as_deref().unwrap_or("no reason given");
        findings.push(format!("{name}: {}: {reason}", status.standing));
    }
    if status.waits_for_name {
        let region = link.target.name();
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

/// Returns `None` where the target holds nothing of the repository.
async fn verify_target(
    link: &Link,
    status: &RepositoryStatus,
    deep: bool,
) -> Result<Option<Verified>, ReplicationError> {
    let id: Option<RepositoryId> = status.id.parse().ok();
    let (Some(id), true) = (id, status.target.is_some()) else { return Ok(None) };
    let Some(item) = read_head(link.target.table(), id).await.in_region(&link.target)? else { return Ok(None) };
    let progress = Arc::new(CheckProgress::default());
    link.target.verifier().verify(&item, deep, progress).await.map(Some).in_region(&link.target)
}

/// Reason why a text is not a manifest that can be relied on.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The text is not a manifest.
    #[error("this is not a backup manifest: {0}")]
    NotAManifest(String),
    /// The manifest was changed after it was signed.
    #[error("the manifest says its SHA-256 is {claimed}, but it is {actual}: it was changed")]
    Changed {
        /// Checksum in the manifest.
        claimed: String,
        /// Checksum of its text.
        actual: String,
    },
}

impl Manifest {
    /// Renders the manifest as one line of JSON whose last field is the SHA-256 of the line without that field.
    pub fn seal(&self) -> Result<String, serde_json::Error> {
        let text = serde_json::to_string(self)?;
        let body = text.strip_suffix('}').unwrap_or(&text);
        Ok(format!("{body}{SEAL}{}{END}\n", hex::encode(Sha256::digest(&text))))
    }
}

/// Checks the checksum of a manifest; returns its fields.
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
