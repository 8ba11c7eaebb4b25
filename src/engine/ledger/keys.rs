//! Where everything lies: the keys of the table and of the object store.

use uuid::Uuid;

use super::hash::{ChangeHash, SnapshotHash};
use super::head::RepositoryId;
use gitferry_git::lfs::LfsOid;
use gitferry_store::table::Key;

/// The listing of repositories and the outbox are spread over this many partitions.
pub const SHARDS: u8 = 16;

/// The shard of a repository, in `0..SHARDS`.
pub fn shard(id: RepositoryId) -> u8 {
    // The last byte of a UUIDv7 is random; its first bytes are the time and would crowd one shard.
    id.0.as_bytes()[15] % SHARDS
}

/// Who holds a name.
pub fn name(name: &str) -> Key {
    Key::new(format!("name/{name}"), "-")
}

/// The partition that lists a shard's repositories.
pub fn listing_partition(shard: u8) -> String {
    format!("repositories/{shard:02}")
}

/// A repository's entry in the listing.
pub fn listing(id: RepositoryId) -> Key {
    Key::new(listing_partition(shard(id)), id.to_string())
}

/// The partition of all that belongs to a repository.
pub fn repository(id: RepositoryId) -> String {
    format!("repository/{id}")
}

/// The head.
pub fn head(id: RepositoryId) -> Key {
    Key::new(repository(id), "head")
}

/// The manifest.
pub fn manifest(id: RepositoryId) -> Key {
    Key::new(repository(id), "manifest")
}

/// A change; content-addressed, so a row that is not on the chain is inert.
pub fn change(id: RepositoryId, seq: u64, hash: ChangeHash) -> Key {
    Key::new(repository(id), format!("{}{hash}", change_prefix(seq)))
}

/// What the sort keys of all changes start with.
pub const CHANGE_PREFIX: &str = "change/";

/// What the sort keys of all changes with this number start with.
pub fn change_prefix(seq: u64) -> String {
    format!("{CHANGE_PREFIX}{seq:020}-")
}

/// What the sort keys of all uploads in progress start with.
pub const STAGING_PREFIX: &str = "staging/";

/// An upload in progress, by the nonce of its pack.
pub fn staging(id: RepositoryId, upload: &str) -> Key {
    Key::new(repository(id), format!("{STAGING_PREFIX}{upload}"))
}

/// What the sort keys of all replaced packs start with.
pub const RETIRED_PREFIX: &str = "retired/";

/// A pack that was replaced, and when it may be deleted.
pub fn retired(id: RepositoryId, pack_key: &str) -> Key {
    Key::new(repository(id), format!("{RETIRED_PREFIX}{pack_key}"))
}

/// What the sort keys of the rows of a replaced pack start with, under whatever key it lies.
pub fn retired_prefix(id: RepositoryId, pack: gix::ObjectId) -> String {
    format!("{RETIRED_PREFIX}{}", pack_prefix(id, pack))
}

/// The partition of a shard's claims: see [`crate::region::claims`].
pub fn claims_partition(shard: u8) -> String {
    format!("claims/{shard:02}")
}

/// The uploads of a repository that sweeps have claimed.
pub fn claims(id: RepositoryId) -> Key {
    Key::new(claims_partition(shard(id)), id.to_string())
}

/// The lease of the process that consolidates a repository.
pub fn consolidation_lease(id: RepositoryId) -> Key {
    Key::new(repository(id), "consolidation")
}

/// The partition of packs that are damaged and that consolidation passes over.
pub const ASIDE_PARTITION: &str = "packs-aside";

/// A pack that is set aside.
pub fn aside(id: RepositoryId, pack_key: &str) -> Key {
    Key::new(ASIDE_PARTITION, format!("{}{pack_key}", aside_prefix(id)))
}

/// What the sort keys of a repository's packs that are set aside start with.
pub fn aside_prefix(id: RepositoryId) -> String {
    format!("{id}/")
}

/// What the sort keys of all LFS objects start with.
pub const LFS_PREFIX: &str = "lfs/";

/// An LFS object that is there: complete, checked, durable.
pub fn lfs(id: RepositoryId, oid: LfsOid) -> Key {
    Key::new(repository(id), format!("{LFS_PREFIX}{oid}"))
}

/// What the sort keys of all LFS objects start with that are not there.
pub const LFS_MISSING_PREFIX: &str = "lfs-missing/";

/// An LFS object that a pointer names and that was not there when the pointer came.
pub fn lfs_missing(id: RepositoryId, oid: LfsOid) -> Key {
    Key::new(repository(id), format!("{LFS_MISSING_PREFIX}{oid}"))
}

/// What has been committed and not yet announced.
pub fn outbox(id: RepositoryId) -> Key {
    Key::new(outbox_partition(shard(id)), id.to_string())
}

/// The partition of a shard's outbox.
pub fn outbox_partition(shard: u8) -> String {
    format!("outbox/{shard:02}")
}

/// The last change of a repository that was announced one by one.
pub fn announced(id: RepositoryId) -> Key {
    Key::new(repository(id), "announced")
}

/// An announced change that a link's target has to reach.
pub fn due(link: &str, id: RepositoryId, seq: u64) -> Key {
    Key::new(due_partition(link), format!("{id}/{seq:020}"))
}

/// Something that happened to a repository of a remote, which a link's target has to reach.
pub fn due_news(link: &str, repository: &str, mark: Uuid) -> Key {
    Key::new(due_partition(link), format!("{}{mark}", due_news_prefix(repository)))
}

/// What the sort keys of all such marks of a repository start with; those of repositories below it start so, too.
pub fn due_news_prefix(repository: &str) -> String {
    format!("{DUE_NEWS_PREFIX}{repository}/")
}

/// What the sort keys of all such marks start with. No id does.
const DUE_NEWS_PREFIX: &str = "name/";

/// The repository and the mark, from the sort key of such a mark.
pub fn parse_due_news(sk: &str) -> Option<(&str, Uuid)> {
    let (name, mark) = sk.strip_prefix(DUE_NEWS_PREFIX)?.rsplit_once('/')?;
    Some((name, mark.parse().ok()?))
}

/// The partition of a link's due marks.
pub fn due_partition(link: &str) -> String {
    format!("due/{link}")
}

/// The repository and the change, from the sort key of a due mark.
pub fn parse_due(sk: &str) -> Option<(RepositoryId, u64)> {
    let (id, seq) = sk.split_once('/')?;
    Some((id.parse().ok()?, seq.parse().ok()?))
}

/// A link's statistics about a repository.
pub fn link(link: &str, id: RepositoryId) -> Key {
    Key::new(link_partition(link), id.to_string())
}

/// What a link with a remote keeps about a repository: a checkpoint and statistics.
pub fn remote_link(link: &str, repository: &str) -> Key {
    Key::new(link_partition(link), format!("{REMOTE_LINK_PREFIX}{repository}"))
}

/// What the sort keys of all of these start with.
pub const REMOTE_LINK_PREFIX: &str = "remote/";

/// The newest change of a region's repository that a link to a remote has carried.
pub fn reached(link: &str, id: RepositoryId) -> Key {
    Key::new(link_partition(link), format!("reached/{id}"))
}

/// The partition of a link's statistics.
pub fn link_partition(link: &str) -> String {
    format!("link/{link}")
}

/// When a link's target last verified a repository.
pub fn verified(link: &str, id: RepositoryId) -> Key {
    Key::new(verified_partition(link), id.to_string())
}

/// The partition of these.
pub fn verified_partition(link: &str) -> String {
    format!("verified/{link}")
}

/// The lease of a large transfer.
pub fn lease(link: &str, id: RepositoryId) -> Key {
    Key::new(format!("lease/{link}"), id.to_string())
}

/// The lease of the passes over a repository, on a link with a remote.
pub fn remote_lease(link: &str, repository: &str) -> Key {
    Key::new(format!("lease/{link}"), format!("{REMOTE_LINK_PREFIX}{repository}"))
}

/// Object key of a pack; its index lies beside it (see [`index_of`]).
pub fn pack(id: RepositoryId, pack: gix::ObjectId, nonce: &str) -> String {
    format!("{}{nonce}.pack", pack_prefix(id, pack))
}

/// What the object keys of a pack start with, whatever its nonce.
fn pack_prefix(id: RepositoryId, pack: gix::ObjectId) -> String {
    format!("{}/objects/pack/pack-{pack}-", object_prefix(id))
}

/// The repository, the pack's own key and the nonce, from the object key of a pack or of its index.
pub fn parse_pack(object_key: &str) -> Option<(RepositoryId, String, &str)> {
    let (id, file) = object_key.strip_prefix(OBJECTS_PREFIX)?.split_once("/objects/pack/pack-")?;
    let (stem, extension) = object_key.rsplit_once('.')?;
    if !matches!(extension, "pack" | "idx") {
        return None;
    }
    let (_, nonce) = file.split_once('.')?.0.rsplit_once('-')?;
    Some((id.parse().ok()?, format!("{stem}.pack"), nonce))
}

/// Object key of the index that belongs to a pack's key.
pub fn index_of(pack_key: &str) -> String {
    format!("{}.idx", pack_key.strip_suffix(".pack").unwrap_or(pack_key))
}

/// Object key of a change that is too large for its row.
pub fn large_change(id: RepositoryId, seq: u64, hash: ChangeHash) -> String {
    format!("{}/changes/{seq:020}-{hash}", object_prefix(id))
}

/// Object key of an LFS object, the same in every region.
pub fn lfs_object(id: RepositoryId, oid: LfsOid) -> String {
    let oid = oid.to_string();
    format!("{}/lfs/{}/{}/{oid}", object_prefix(id), &oid[..2], &oid[2..4])
}

/// Object key of a snapshot of the refs: content-addressed, so that what is there under it is the same.
pub fn snapshot(id: RepositoryId, seq: u64, sha256: SnapshotHash) -> String {
    format!("{}/snapshots/{seq:020}-{sha256}", object_prefix(id))
}

/// What the object keys of all repositories start with.
pub const OBJECTS_PREFIX: &str = "repositories/";

/// What all object keys of a repository start with.
pub fn object_prefix(id: RepositoryId) -> String {
    format!("{OBJECTS_PREFIX}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_due_marks_are_read_back() {
        let (id, mark) = (RepositoryId(Uuid::from_u128(1)), Uuid::from_u128(2));
        let key = due("cc", id, 7);
        assert_eq!((parse_due(&key.sk), parse_due_news(&key.sk)), (Some((id, 7)), None));
        for name in ["app", "team/app", "name/app", "a/019a0000-0000-7000-8000-000000000001"] {
            let key = due_news("cc", name, mark);
            assert_eq!((parse_due(&key.sk), parse_due_news(&key.sk)), (None, Some((name, mark))));
            assert!(key.sk.starts_with(&due_news_prefix(name)) && key.pk == due_partition("cc"));
        }
        for strange in ["", "name/", "name/app", "name/app/x", "app/00000000-0000-0000-0000-000000000002"] {
            assert_eq!(parse_due_news(strange), None);
        }
    }
}
