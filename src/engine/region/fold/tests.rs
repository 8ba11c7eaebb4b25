//! Every way in which a change can fail to fit the state before it.

use std::sync::Arc;

use sha2::Digest as _;
use uuid::Uuid;

use super::*;
use crate::ledger::change::{ChangeBody, EditSpool, HeadEdit, RefEdit};
use crate::ledger::log::{ChangeFacts, row_write};
use crate::ledger::metadata::MAX_TAGS;
use gitferry_git::refs::RefName;
use gitferry_store::objects::FilesystemStore;
use gitferry_store::table::SqliteTable;

const ID: RepositoryId = RepositoryId(Uuid::from_u128(1));

fn object(byte: u8) -> RefValue {
    RefValue::Object(gix::ObjectId::from_bytes_or_panic(&[byte; 20]))
}

fn symbolic(name: &str) -> RefValue {
    RefValue::Symbolic(RefName::new(name).unwrap())
}

fn edit(name: &str, old: Option<u8>, new: Option<u8>) -> RefEdit {
    RefEdit { name: RefName::new(name).unwrap(), old: old.map(object), new: new.map(object) }
}

/// Returns the hash of a head whose last change is of format 2.
fn lattice(head: &Head) -> Lattice {
    match &head.refs_hash {
        RefsHash::Lattice(refs) => refs.clone(),
        RefsHash::Xor(_) => panic!("its last change is of format 1"),
    }
}

/// Returns the same change in format 1, with an XOR digest.
fn in_format_1(row: &ChangeRow, xor: Xor) -> ChangeRow {
    let text = String::from_utf8(row.inline.clone().unwrap().to_vec()).unwrap();
    let (above, below) = text.split_once("digest ").unwrap();
    let (_, below) = below.split_once('\n').unwrap();
    let above = above.replace("gitferry-change 2", "gitferry-change 1");
    let text = format!("{above}digest {}\n{below}", RefsHash::Xor(xor).digest());
    let hash = ChangeHash(sha2::Sha256::digest(text.as_bytes()).into());
    let facts = ChangeFacts { size: text.len() as u64, ..row.facts.clone() };
    ChangeRow { hash, facts, inline: Some(text.into()) }
}

/// Ingredients of a change.
struct Draft {
    header: ChangeHeader,
    /// Hash of the refs from which the author started.
    before: Lattice,
    edits: Vec<RefEdit>,
}

impl Draft {
    fn first() -> Draft {
        let header = ChangeHeader::first("us", "r");
        Draft { header, before: Lattice::default(), edits: vec![edit("refs/heads/main", None, Some(1))] }
    }

    /// Returns a change that fits behind `head`.
    fn after(head: &Head) -> Draft {
        let Draft { header, .. } = Draft::first();
        let header = ChangeHeader {
            seq: head.frontier.seq + 1,
            prev: head.frontier.hash,
            name: None,
            format: None,
            state: None,
            head: None,
            ..header
        };
        Draft { header, before: lattice(head), edits: vec![edit("refs/heads/main", Some(1), Some(2))] }
    }

    fn row(self) -> ChangeRow {
        let mut spool = EditSpool::new(std::env::temp_dir());
        self.edits.iter().for_each(|edit| spool.push(edit).unwrap());
        let sealed = spool.seal(self.header, self.before).unwrap();
        let ChangeBody::Inline(bytes) = sealed.body else { panic!("larger than expected") };
        let facts = ChangeFacts {
            seq: sealed.header.seq,
            prev: sealed.header.prev,
            epoch: sealed.header.epoch,
            time: sealed.header.time,
            size: sealed.size,
            edits: sealed.header.edits,
            packs: 0,
            pack_bytes: 0,
            lfs_bytes: 0,
            object: None,
        };
        ChangeRow { hash: sealed.hash, facts, inline: Some(bytes) }
    }
}

struct Place {
    log: Log,
    _dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let objects = Arc::new(FilesystemStore::open(dir.path().join("objects"), "o").unwrap());
        let table = Arc::new(SqliteTable::open(dir.path().join("table.db"), "t").unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Place { log: Log { table, objects }, _dir: dir, runtime }
    }

    fn fold(&self, before: Option<&Head>, rows: &[ChangeRow]) -> Result<Folded, FoldError> {
        let _inside = self.runtime.enter();
        fold(&self.log, ID, before.map(|head| Before { head, log: &self.log }), rows)
    }

    fn first_head(&self) -> Head {
        self.fold(None, &[Draft::first().row()]).unwrap().head
    }

    /// Returns the sequence number of the change and the reason of the misfit.
    fn misfit(&self, before: Option<&Head>, draft: Draft) -> (u64, String) {
        match self.fold(before, &[draft.row()]) {
            Err(FoldError::Misfit { seq, reason }) => (seq, reason),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn metadata_are_in_the_head_and_keep_their_limits() {
    let place = Place::new();
    let first = place.first_head();
    let mut draft = Draft::after(&first);
    draft.header.metadata.description = Some("said".into());
    draft.header.metadata.tags = [("team".into(), Some("infra".into()))].into();
    let described = place.fold(Some(&first), &[draft.row()]).unwrap().head;
    assert_eq!((described.metadata.description.as_str(), described.metadata.tags["team"].as_str()), ("said", "infra"));
    let mut draft = Draft::after(&described);
    draft.header.metadata.tags = (0..MAX_TAGS).map(|number| (number.to_string(), Some(String::new()))).collect();
    let (_, reason) = place.misfit(Some(&described), draft);
    assert!(reason.contains("at most 50 tags"), "{reason}");
}

#[test]
fn a_chain_that_fits_makes_the_head_that_it_says() {
    let place = Place::new();
    let first = place.first_head();
    assert_eq!((first.name.as_str(), first.refs, first.frontier.seq), ("r", 1, 1));
    let mut draft = Draft::after(&first);
    draft.edits.push(edit("refs/tags/v1", None, Some(9)));
    draft.header.head = Some(HeadEdit { old: Some(symbolic("refs/heads/main")), new: object(2) });
    let second = draft.row();
    let folded = place.fold(Some(&first), std::slice::from_ref(&second)).unwrap();
    assert_eq!((folded.head.refs, folded.head.frontier, folded.edits), (2, second.frontier(), 2));
    assert_eq!(folded.head.head, object(2));
    let whole = place.fold(None, &[Draft::first().row(), second]).unwrap();
    assert_eq!(whole.head, folded.head);
}

#[test]
fn a_change_that_does_not_follow_is_a_misfit() {
    let place = Place::new();
    let head = place.first_head();
    let mut epoch_two = head.clone();
    epoch_two.frontier.epoch = 2;
    type Spoil = fn(&mut ChangeHeader);
    let spoil: [(&Head, Spoil); 4] = [
        (&head, |header| header.seq = 3),
        (&head, |header| header.seq = 1),
        (&head, |header| header.prev = ChangeHash([7; 32])),
        (&epoch_two, |_| {}),
    ];
    for (before, spoil) in spoil {
        let mut draft = Draft::after(before);
        spoil(&mut draft.header);
        let (_, reason) = place.misfit(Some(before), draft);
        assert!(reason.contains("does not follow change 1"), "{reason}");
    }
}

#[test]
fn a_change_of_an_epoch_without_a_successor_is_a_misfit() {
    let place = Place::new();
    let head = place.first_head();
    for (before, mut draft) in [(None, Draft::first()), (Some(&head), Draft::after(&head))] {
        draft.header.epoch = u64::MAX;
        assert!(place.misfit(before, draft).1.contains("its epoch is the highest number there is"));
    }
}

#[test]
fn a_first_change_says_all_that_a_repository_is() {
    let place = Place::new();
    let spoil: [fn(&mut ChangeHeader); 3] =
        [|header| header.name = None, |header| header.format = None, |header| header.head = None];
    for spoil in spoil {
        let mut draft = Draft::first();
        spoil(&mut draft.header);
        assert!(place.misfit(None, draft).1.contains("a first change sets name, object format and HEAD"));
    }
    let mut draft = Draft::first();
    draft.header.head = Some(HeadEdit { old: Some(object(1)), new: object(2) });
    assert!(place.misfit(None, draft).1.contains("the old value of HEAD is not that of the state before"));
    assert!(matches!(place.fold(None, &[]), Err(FoldError::Misfit { seq: 0, .. })));
}

#[test]
fn only_a_first_change_sets_the_object_format() {
    let place = Place::new();
    let head = place.first_head();
    let mut draft = Draft::after(&head);
    draft.header.format = Some(gix::hash::Kind::Sha1);
    assert_eq!(place.misfit(Some(&head), draft), (2, "only a first change sets the object format".into()));
}

#[test]
fn a_change_of_another_head_is_a_misfit() {
    let place = Place::new();
    let head = place.first_head();
    for old in [None, Some(symbolic("refs/heads/other"))] {
        let mut draft = Draft::after(&head);
        draft.header.head = Some(HeadEdit { old, new: object(2) });
        assert!(place.misfit(Some(&head), draft).1.contains("the old value of HEAD is not that of the state before"));
    }
}

#[test]
fn edits_that_do_not_start_from_the_refs_here_are_a_misfit() {
    let place = Place::new();
    let head = place.first_head();
    // The author started from other refs.
    let mut draft = Draft::after(&head);
    draft.before.edit(b"refs/heads/other", None, Some(&object(1)));
    let (seq, reason) = place.misfit(Some(&head), draft);
    assert!(seq == 2 && reason.contains("the refs digest is"), "{reason}");
    // The head does not match its refs.
    let mut damaged = head.clone();
    let mut refs = lattice(&head);
    refs.edit(b"refs/heads/other", None, Some(&object(1)));
    damaged.refs_hash = RefsHash::Lattice(refs);
    assert!(place.misfit(Some(&damaged), Draft::after(&head)).1.contains("the refs digest is"));
}

#[test]
fn bytes_that_are_not_the_rows_own_are_an_error() {
    let place = Place::new();
    let head = place.first_head();
    let good = Draft::after(&head).row();
    let other = Draft { edits: Vec::new(), ..Draft::after(&head) }.row();
    for row in [
        ChangeRow { inline: other.inline.clone(), ..good.clone() },
        ChangeRow { hash: other.hash, ..good.clone() },
        ChangeRow { facts: ChangeFacts { size: 1, ..good.facts.clone() }, ..good.clone() },
        ChangeRow { facts: ChangeFacts { prev: ChangeHash([1; 32]), ..good.facts.clone() }, ..good.clone() },
    ] {
        let error = place.fold(Some(&head), &[row]).unwrap_err();
        assert!(matches!(&error, FoldError::Ledger(e) if e.kind() == gitferry_base::Kind::Corrupt), "{error}");
        assert!(error.to_string().contains("its bytes were altered"), "{error}");
    }
    assert!(place.fold(Some(&head), &[good]).is_ok());
}

/// A first change of format 1, and the refs after it.
fn old_first() -> (ChangeRow, HashedRefs) {
    let mut refs = HashedRefs::default();
    refs.edit(b"HEAD", None, Some(&symbolic("refs/heads/main")));
    refs.edit(b"refs/heads/main", None, Some(&object(1)));
    (in_format_1(&Draft::first().row(), refs.xor), refs)
}

#[test]
fn the_hash_that_cannot_be_forged_comes_with_the_next_change() {
    let place = Place::new();
    let (first, refs) = old_first();
    let old = place.fold(None, std::slice::from_ref(&first)).unwrap();
    assert!(old.head.refs_hash == RefsHash::Xor(refs.xor) && old.refs.as_ref() == Some(&refs.lattice));
    // Another of format 1, then one of this build.
    let mut after = refs.clone();
    after.edit(b"refs/tags/v1", None, Some(&object(9)));
    let header = ChangeHeader {
        prev: first.hash,
        seq: 2,
        name: None,
        format: None,
        state: None,
        head: None,
        ..Draft::first().header
    };
    let draft = Draft { header, before: refs.lattice.clone(), edits: vec![edit("refs/tags/v1", None, Some(9))] };
    let second = in_format_1(&draft.row(), after.xor);
    let header = ChangeHeader {
        prev: second.hash,
        seq: 3,
        name: None,
        format: None,
        state: None,
        head: None,
        ..Draft::first().header
    };
    let draft = |before: &HashedRefs| Draft {
        header: header.clone(),
        before: before.lattice.clone(),
        edits: vec![edit("refs/heads/main", Some(1), Some(2))],
    };
    let third = draft(&after).row();
    let whole = place.fold(None, &[first.clone(), second.clone(), third.clone()]).unwrap();
    assert!(whole.refs == Some(lattice(&whole.head)) && whole.head.frontier == third.frontier());
    // A replica that has the first change and reads its refs from its own log.
    let table = place.log.table.clone();
    let row = row_write(ID, first.hash, &first.facts, first.inline.clone());
    place.runtime.block_on(table.transact(vec![row])).unwrap();
    let replica = place.fold(Some(&old.head), &[second.clone(), third.clone()]).unwrap();
    assert_eq!(replica.head, whole.head);
    // Behind format 1 alone, the lattice hash is not needed.
    assert_eq!(place.fold(Some(&old.head), std::slice::from_ref(&second)).unwrap().refs, None);
    // An author with another hash than this region is a misfit.
    let other = draft(&refs).row();
    match place.fold(Some(&old.head), &[second.clone(), other]) {
        Err(FoldError::Misfit { seq: 3, reason }) => assert!(reason.contains("the refs digest is"), "{reason}"),
        other => panic!("{other:?}"),
    }
    // Refs of this region that do not match its head are reported as such.
    let mut damaged = old.head.clone();
    damaged.refs_hash = RefsHash::Xor(Xor::default());
    let error = place.fold(Some(&damaged), &[draft(&refs).row()]).unwrap_err();
    assert!(error.to_string().contains("does not follow") || matches!(error, FoldError::Before(_)), "{error}");
}

#[test]
fn format_1_does_not_come_back() {
    let place = Place::new();
    let head = place.first_head();
    let row = in_format_1(&Draft::after(&head).row(), Xor::default());
    match place.fold(Some(&head), &[row]) {
        Err(FoldError::Misfit { seq: 2, reason }) => {
            assert!(reason.contains("behind a change of format 2"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}
