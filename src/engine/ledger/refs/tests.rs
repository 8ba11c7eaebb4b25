//! Refs from a snapshot, large and small changes, against a plain map.

use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::ledger::change::{ChangeBody, ChangeHeader, EditSpool, RefEdit, SealedChange};
use crate::ledger::hash::{ChangeHash, Lattice, RefsDigest, SnapshotHash};
use crate::ledger::log::{ChangeFacts, LargeBody};
use crate::ledger::snapshot::SnapshotWriter;
use gitferry_store::objects::FilesystemStore;
use gitferry_store::table::SqliteTable;

type Model = BTreeMap<RefName, RefValue>;

/// One change: a value or deletion for each of a few refs, and the place of its bytes.
type Step = (BTreeMap<u8, Option<u8>>, bool);

fn name(number: u8) -> RefName {
    RefName::new(format!("refs/heads/{number}")).unwrap()
}

fn object(number: u8) -> RefValue {
    RefValue::Object(gix::ObjectId::from_bytes_or_panic(&[number | 1; 20]))
}

struct Place {
    log: Log,
    id: RepositoryId,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let objects = Arc::new(FilesystemStore::open(dir.path().join("objects"), "o").unwrap());
        let table = Arc::new(SqliteTable::open(dir.path().join("table.db"), "t").unwrap());
        Place { log: Log { table, objects }, id: RepositoryId(uuid::Uuid::from_u128(7)), dir }
    }

    /// Seals the difference between two states as the change with this sequence number.
    fn seal(&self, seq: u64, before: &Model, edits: &BTreeMap<u8, Option<u8>>) -> (SealedChange, Model) {
        let mut spool = EditSpool::new(self.dir.path());
        let mut after = before.clone();
        let by_name: BTreeMap<RefName, Option<u8>> = edits.iter().map(|(n, value)| (name(*n), *value)).collect();
        for (name, value) in by_name {
            let (old, new) = (before.get(&name).cloned(), value.map(object));
            match &new {
                Some(new) => after.insert(name.clone(), new.clone()),
                None => after.remove(&name),
            };
            if old != new {
                spool.push(&RefEdit { name, old, new }).unwrap();
            }
        }
        let header = ChangeHeader {
            epoch: 1,
            region: "r".into(),
            seq,
            prev: ChangeHash::ZERO,
            time: jiff::Timestamp::UNIX_EPOCH,
            actor: "a".into(),
            name: None,
            format: None,
            state: None,
            head: None,
            metadata: Default::default(),
            packs: Vec::new(),
            lfs: Vec::new(),
            digest: RefsDigest::default(),
            edits: 0,
        };
        (spool.seal(header, Lattice::default()).unwrap(), after)
    }

    /// Returns the change as a row; a large one has its bytes in the object store.
    async fn row(&self, sealed: &SealedChange, large: bool) -> ChangeRow {
        let ChangeBody::Inline(bytes) = &sealed.body else { panic!("larger than expected") };
        let header = &sealed.header;
        let mut facts = ChangeFacts {
            seq: header.seq,
            prev: header.prev,
            epoch: 1,
            time: header.time,
            size: sealed.size,
            edits: header.edits,
            packs: 0,
            pack_bytes: 0,
            lfs_bytes: 0,
            object: None,
        };
        if large {
            let key = format!("changes/{}", header.seq);
            self.log.objects.put(&key, bytes.clone()).await.unwrap();
            facts.object = Some(LargeBody { key, crc64: Default::default() });
        }
        ChangeRow { hash: sealed.hash, facts, inline: (!large).then(|| bytes.clone()) }
    }

    async fn snapshot(&self, refs: &Model) -> SnapshotRef {
        let mut writer = SnapshotWriter::new(Vec::new()).unwrap();
        refs.iter().for_each(|(name, value)| writer.push(name, value).unwrap());
        let written = writer.finish().unwrap();
        assert_eq!(written.count, refs.len() as u64);
        let (bytes, sha256) = (written.out.len() as u64, Some(written.sha256));
        self.log.objects.put("snapshot", written.out.into()).await.unwrap();
        SnapshotRef { seq: 0, key: "snapshot".into(), bytes, sha256 }
    }

    async fn collect(&self, snapshot: Option<SnapshotRef>, rows: Vec<ChangeRow>) -> Result<Model, LedgerError> {
        let refs = RefsAt { id: self.id, log: self.log.clone(), snapshot, rows };
        tokio::task::spawn_blocking(move || refs.collect()).await.unwrap()
    }
}

async fn check(steps: Vec<Step>, snapshot_after: usize) {
    let place = Place::new();
    let (mut model, mut rows, mut snapshot) = (Model::new(), Vec::new(), None);
    for (index, (edits, large)) in steps.iter().enumerate() {
        let (sealed, after) = place.seal(index as u64 + 1, &model, edits);
        model = after;
        rows.push(place.row(&sealed, *large).await);
        if index + 1 == snapshot_after {
            snapshot = Some(place.snapshot(&model).await);
            rows.clear();
        }
    }
    assert_eq!(place.collect(snapshot, rows).await.unwrap(), model);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let edits = btree_map(0..20u8, proptest::option::weighted(0.7, any::<u8>()), 0..8);
    vec((edits, proptest::bool::weighted(0.4)), 0..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layers_merge_to_what_a_map_holds(steps in steps(), snapshot_after in 0..10usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(steps, snapshot_after));
    }
}

#[tokio::test]
async fn a_large_change_that_was_altered_ends_the_stream_with_an_error() {
    let place = Place::new();
    let (sealed, _) = place.seal(1, &Model::new(), &[(1, Some(3)), (2, Some(5))].into());
    let mut row = place.row(&sealed, true).await;
    assert_eq!(place.collect(None, vec![row.clone()]).await.unwrap().len(), 2);

    // Same length and still a valid change: only the hash differs.
    let ChangeBody::Inline(bytes) = &sealed.body else { panic!("larger than expected") };
    let altered = String::from_utf8(bytes.to_vec()).unwrap().replace("refs/heads/2", "refs/heads/3");
    place.log.objects.put("changes/altered", altered.into()).await.unwrap();
    row.facts.object.as_mut().unwrap().key = "changes/altered".into();
    let error = place.collect(None, vec![row.clone()]).await.unwrap_err();
    assert_eq!(error.kind(), gitferry_base::Kind::Corrupt);
    assert!(error.to_string().contains("its bytes were altered"), "{error}");

    row.facts.object.as_mut().unwrap().key = "changes/gone".into();
    let error = place.collect(None, vec![row]).await.unwrap_err();
    assert_eq!(error.kind(), gitferry_base::Kind::Corrupt);
    assert!(error.to_string().contains("change 1 of repository") && error.to_string().contains("changes/gone"));
}

#[tokio::test]
async fn a_snapshot_that_was_altered_ends_the_stream_with_an_error() {
    let place = Place::new();
    let model = Model::from([(name(1), object(3)), (name(2), object(5))]);
    let good = place.snapshot(&model).await;
    assert_eq!(place.collect(Some(good.clone()), Vec::new()).await.unwrap(), model);
    // Valid snapshots of other refs, or with trailing bytes: only the hash differs.
    let other = Model::from([(name(1), object(3)), (name(2), object(7))]);
    let mut writer = SnapshotWriter::new(Vec::new()).unwrap();
    other.iter().for_each(|(name, value)| writer.push(name, value).unwrap());
    let forged = writer.finish().unwrap().out;
    let longer = [&place.log.objects.get("snapshot", 0..1_000_000).await.unwrap()[..], b"x"].concat();
    for (key, bytes) in [("forged", forged), ("longer", longer)] {
        place.log.objects.put(key, bytes.into()).await.unwrap();
        let altered = SnapshotRef { key: key.into(), ..good.clone() };
        let error = place.collect(Some(altered), Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), gitferry_base::Kind::Corrupt, "{key}: {error}");
    }
    let another = SnapshotRef { sha256: Some(SnapshotHash([0; 32])), ..good };
    let error = place.collect(Some(another), Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("its bytes were altered"), "{error}");
}
