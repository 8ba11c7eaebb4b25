//! Keys of the table and of the object store.

use uuid::Uuid;

use super::hash::{ChangeHash, SnapshotHash};
use super::head::RepositoryId;
use gitferry_git::lfs::LfsOid;
use gitferry_store::table::Key;

/// Number of partitions of the repository listing, the claims and the outbox.
pub const SHARDS: u8 = 16;

/// Returns the shard of a repository, in `0..SHARDS`.
pub fn shard(id: RepositoryId) -> u8 {
    // The last byte of a UUIDv7 is random; its first bytes are the time and would crowd one shard.
    id.0.as_bytes()[15] % SHARDS
}

/// Row of a name: the id of its holder.
pub fn name(name: &str) -> Key {
    Key::new(format!("name/{name}"), "-")
}

/// Partition that lists a shard's repositories.
pub fn listing_partition(shard: u8) -> String {
    format!("repositories/{shard:02}")
}

/// Row that lists a repository.
pub fn listing(id: RepositoryId) -> Key {
    Key::new(listing_partition(shard(id)), id.to_string())
}

/// Partition of all rows of a repository.
pub fn repository(id: RepositoryId) -> String {
    format!("repository/{id}")
}

/// Row of the head.
pub fn head(id: RepositoryId) -> Key {
    Key::new(repository(id), "head")
}

/// Row of the manifest.
pub fn manifest(id: RepositoryId) -> Key {
    Key::new(repository(id), "manifest")
}

/// Row of a change; content-addressed, so a row that is not on the chain is inert.
pub fn change(id: RepositoryId, seq: u64, hash: ChangeHash) -> Key {
    Key::new(repository(id), format!("{}{hash}", change_prefix(seq)))
}

/// Prefix of the sort keys of changes.
pub const CHANGE_PREFIX: &str = "change/";

/// Prefix of the sort keys of changes with this sequence number.
pub fn change_prefix(seq: u64) -> String {
    format!("{CHANGE_PREFIX}{seq:020}-")
}

/// Prefix of the sort keys of uploads in progress.
pub const STAGING_PREFIX: &str = "staging/";

/// Row of an upload in progress, by the nonce of its pack.
pub fn staging(id: RepositoryId, upload: &str) -> Key {
    Key::new(repository(id), format!("{STAGING_PREFIX}{upload}"))
}

/// Prefix of the sort keys of replaced packs.
pub const RETIRED_PREFIX: &str = "retired/";

/// Row of a replaced pack that waits for its deletion.
pub fn retired(id: RepositoryId, pack_key: &str) -> Key {
    Key::new(repository(id), format!("{RETIRED_PREFIX}{pack_key}"))
}

/// Prefix of the sort keys of a replaced pack's rows, under any nonce.
pub fn retired_prefix(id: RepositoryId, pack: gix::ObjectId) -> String {
    format!("{RETIRED_PREFIX}{}", pack_prefix(id, pack))
}

/// Partition of a shard's claims: see [`crate::region::claims`].
pub fn claims_partition(shard: u8) -> String {
    format!("claims/{shard:02}")
}

/// Row of the uploads of a repository that sweeps have claimed.
pub fn claims(id: RepositoryId) -> Key {
    Key::new(claims_partition(shard(id)), id.to_string())
}

/// Lease of the process that consolidates a repository.
pub fn consolidation_lease(id: RepositoryId) -> Key {
    Key::new(repository(id), "consolidation")
}

/// Partition of damaged packs that consolidation skips.
pub const ASIDE_PARTITION: &str = "packs-aside";

/// Row of a pack that is set aside.
pub fn aside(id: RepositoryId, pack_key: &str) -> Key {
    Key::new(ASIDE_PARTITION, format!("{}{pack_key}", aside_prefix(id)))
}

/// Prefix of the sort keys of a repository's packs that are set aside.
pub fn aside_prefix(id: RepositoryId) -> String {
    format!("{id}/")
}

/// Row of the KMS key that encrypts the objects of a repository in this region.
pub fn kms_key(id: RepositoryId) -> Key {
    Key::new(repository(id), "kms-key")
}

/// Prefix of the sort keys of held LFS objects.
pub const LFS_PREFIX: &str = "lfs/";

/// Row of an LFS object that is complete, checked and durable.
pub fn lfs(id: RepositoryId, oid: LfsOid) -> Key {
    Key::new(repository(id), format!("{LFS_PREFIX}{oid}"))
}

/// Prefix of the sort keys of missing LFS objects.
pub const LFS_MISSING_PREFIX: &str = "lfs-missing/";

/// Row of an LFS object that was missing when a pointer to it came.
pub fn lfs_missing(id: RepositoryId, oid: LfsOid) -> Key {
    Key::new(repository(id), format!("{LFS_MISSING_PREFIX}{oid}"))
}

/// Row of the outbox: a committed change whose event is yet to be published.
pub fn outbox(id: RepositoryId) -> Key {
    Key::new(outbox_partition(shard(id)), id.to_string())
}

/// Partition of a shard's outbox.
pub fn outbox_partition(shard: u8) -> String {
    format!("outbox/{shard:02}")
}

/// Row of the last change of a repository that was announced one by one.
pub fn announced(id: RepositoryId) -> Key {
    Key::new(repository(id), "announced")
}

/// Row of a pending job: an announced change that a link's target has to reach.
pub fn pending_change(link: &str, id: RepositoryId, seq: u64) -> Key {
    Key::new(pending_partition(link), format!("{id}/{seq:020}"))
}

/// Row of a pending job: an event of a remote's repository that a link's target has to reach.
pub fn pending_event(link: &str, repository: &str, mark: Uuid) -> Key {
    Key::new(pending_partition(link), format!("{}{mark}", pending_event_prefix(repository)))
}

/// Prefix of the sort keys of a remote repository's pending jobs, and of those of repositories below its name.
pub fn pending_event_prefix(repository: &str) -> String {
    format!("{PENDING_EVENT_PREFIX}{repository}/")
}

/// Prefix of the sort keys of pending jobs of remote repositories. Ids never begin with it.
const PENDING_EVENT_PREFIX: &str = "name/";

/// Parses repository and mark from the sort key of a remote repository's pending job.
pub fn parse_pending_event(sk: &str) -> Option<(&str, Uuid)> {
    let (name, mark) = sk.strip_prefix(PENDING_EVENT_PREFIX)?.rsplit_once('/')?;
    Some((name, mark.parse().ok()?))
}

/// Partition of a link's pending jobs.
pub fn pending_partition(link: &str) -> String {
    format!("due/{link}")
}

/// Parses repository and sequence number from the sort key of a pending job.
pub fn parse_pending_change(sk: &str) -> Option<(RepositoryId, u64)> {
    let (id, seq) = sk.split_once('/')?;
    Some((id.parse().ok()?, seq.parse().ok()?))
}

/// Row of a link's statistics about a repository.
pub fn link(link: &str, id: RepositoryId) -> Key {
    Key::new(link_partition(link), id.to_string())
}

/// Row of a link with a remote about a repository: checkpoint and statistics.
pub fn remote_link(link: &str, repository: &str) -> Key {
    Key::new(link_partition(link), format!("{REMOTE_LINK_PREFIX}{repository}"))
}

/// Prefix of the sort keys of such rows.
pub const REMOTE_LINK_PREFIX: &str = "remote/";

/// Row of the newest change of a region's repository that a link has delivered to a remote.
pub fn reached(link: &str, id: RepositoryId) -> Key {
    Key::new(link_partition(link), format!("reached/{id}"))
}

/// Partition of a link's statistics.
pub fn link_partition(link: &str) -> String {
    format!("link/{link}")
}

/// Row of the last verification of a repository at a link's target.
pub fn verified(link: &str, id: RepositoryId) -> Key {
    Key::new(verified_partition(link), id.to_string())
}

/// Partition of a link's verifications.
pub fn verified_partition(link: &str) -> String {
    format!("verified/{link}")
}

/// Lease of a large transfer.
pub fn lease(link: &str, id: RepositoryId) -> Key {
    Key::new(format!("lease/{link}"), id.to_string())
}

/// Lease of the passes over a repository, on a link with a remote.
pub fn remote_lease(link: &str, repository: &str) -> Key {
    Key::new(format!("lease/{link}"), format!("{REMOTE_LINK_PREFIX}{repository}"))
}

/// Returns the object key of a pack; [`index_of`] gives that of its index.
pub fn pack(id: RepositoryId, pack: gix::ObjectId, nonce: &str) -> String {
    format!("{}{nonce}.pack", pack_prefix(id, pack))
}

/// Returns the prefix of a pack's object keys, under any nonce.
fn pack_prefix(id: RepositoryId, pack: gix::ObjectId) -> String {
    format!("{}/objects/pack/pack-{pack}-", object_prefix(id))
}

/// Parses repository, key of the pack and nonce from the object key of a pack or of an index.
pub fn parse_pack(object_key: &str) -> Option<(RepositoryId, String, &str)> {
    let (id, file) = object_key.strip_prefix(OBJECTS_PREFIX)?.split_once("/objects/pack/pack-")?;
    let (stem, extension) = object_key.rsplit_once('.')?;
    if !matches!(extension, "pack" | "idx") {
        return None;
    }
    let (_, nonce) = file.split_once('.')?.0.rsplit_once('-')?;
    Some((id.parse().ok()?, format!("{stem}.pack"), nonce))
}

/// Returns the object key of a pack's index.
pub fn index_of(pack_key: &str) -> String {
    format!("{}.idx", pack_key.strip_suffix(".pack").unwrap_or(pack_key))
}

/// Returns the object key of a change that is too large for its row.
pub fn large_change(id: RepositoryId, seq: u64, hash: ChangeHash) -> String {
    format!("{}/changes/{seq:020}-{hash}", object_prefix(id))
}

/// Returns the object key of an LFS object, the same in every region.
pub fn lfs_object(id: RepositoryId, oid: LfsOid) -> String {
    let oid = oid.to_string();
    format!("{}/lfs/{}/{}/{oid}", object_prefix(id), &oid[..2], &oid[2..4])
}

/// Returns the object key of a snapshot of the refs; content-addressed, so an existing object has the same bytes.
pub fn snapshot(id: RepositoryId, seq: u64, sha256: SnapshotHash) -> String {
    format!("{}/snapshots/{seq:020}-{sha256}", object_prefix(id))
}

/// Prefix of the object keys of all repositories.
pub const OBJECTS_PREFIX: &str = "repositories/";

/// Returns the prefix of a repository's object keys, without a slash at the end.
pub fn object_prefix(id: RepositoryId) -> String {
    format!("{OBJECTS_PREFIX}{id}")
}

/// Parses the repository from the key of one of its objects.
pub fn repository_of(object_key: &str) -> Option<RepositoryId> {
    object_key.strip_prefix(OBJECTS_PREFIX)?.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_pending_jobs_are_read_back() {
        let (id, mark) = (RepositoryId(Uuid::from_u128(1)), Uuid::from_u128(2));
        let key = pending_change("cc", id, 7);
        assert_eq!((parse_pending_change(&key.sk), parse_pending_event(&key.sk)), (Some((id, 7)), None));
        for name in ["app", "team/app", "name/app", "a/019a0000-0000-7000-8000-000000000001"] {
            let key = pending_event("cc", name, mark);
            assert_eq!((parse_pending_change(&key.sk), parse_pending_event(&key.sk)), (None, Some((name, mark))));
            assert!(key.sk.starts_with(&pending_event_prefix(name)) && key.pk == pending_partition("cc"));
        }
        for strange in ["", "name/", "name/app", "name/app/x", "app/00000000-0000-0000-0000-000000000002"] {
            assert_eq!(parse_pending_event(strange), None);
        }
    }
}
