//! Large changes whose key is taken.

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::ledger::change::RefEdit;
use gitferry_base::Kind;
use gitferry_git::refs::RefName;

const ID: RepositoryId = RepositoryId(Uuid::from_u128(1));

/// Returns a first change that is too large for its row. Each has the same bytes.
fn large(region: &Region) -> SealedChange {
    let mut spool = EditSpool::new(region.spool_dir());
    for number in 0..6_000_u32 {
        let name = RefName::new(format!("refs/heads/{number:06}")).unwrap();
        let new = RefValue::Object(gix::ObjectId::from_bytes_or_panic(&[1; 20]));
        spool.push(&RefEdit { name, old: None, new: Some(new) }).unwrap();
    }
    spool.seal(ChangeHeader::first("us", "r"), Lattice::default()).unwrap()
}

/// The object store returns `Exists`: only an object of the same size is the change of an earlier attempt.
#[tokio::test]
async fn a_large_change_is_not_recorded_as_an_object_that_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let region = Region::open_embedded("us", &dir.path().join("objects"), &dir.path().join("table.db")).unwrap();
    let sealed = large(&region);
    let key = keys::large_change(ID, 1, sealed.hash);
    for other in [Bytes::new(), Bytes::from_static(b"of another size"), vec![0; sealed.size as usize + 1].into()] {
        region.objects().put(&key, other).await.unwrap();
        let error = region.committer().put_large_body(ID, large(&region)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
        assert!(error.to_string().contains(&format!("not the change of {} bytes", sealed.size)), "{error}");
        region.objects().delete(&key).await.unwrap();
    }
    for _ in 0..2 {
        let (_, body) = region.committer().put_large_body(ID, large(&region)).await.unwrap();
        assert_eq!(body.unwrap().key, key);
        assert_eq!(region.objects().head(&key).await.unwrap().unwrap().size, sealed.size);
    }
}
