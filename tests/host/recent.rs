//! What a force-push replaced may be fetched for ten minutes, and not a moment longer.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use gitferry_base::clock::Clock;
use gitferry_engine::region::Region;
use gitferry_engine::region::import::{ImportOptions, ImportProgress};
use gitferry_git::local::RefPatterns;
use gitferry_git::protocol::{PacketWriter, Version};
use gitferry_git::upload_pack::{Limits, Session, serve};
use gitferry_git::view::View;
use gitferry_host::views::Views;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use gitferry_test_support::git::GitRepo;

/// A clock that is set by hand.
#[derive(Debug)]
struct ByHand(Mutex<Timestamp>);

impl ByHand {
    fn pass(&self, time: SignedDuration) {
        *self.0.lock().unwrap() += time;
    }
}

impl Clock for ByHand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn new_id(&self) -> Uuid {
        Uuid::new_v4()
    }
}

struct Place {
    dir: tempfile::TempDir,
    clock: Arc<ByHand>,
    region: Region,
    repo: GitRepo,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ByHand(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap())));
        let region = Region::open_embedded("us", &dir.path().join("objects"), &dir.path().join("table.db")).unwrap();
        let region = region.with_clock(clock.clone());
        let repo = GitRepo::with_history(dir.path().join("app.git"), &[]);
        Place { dir, clock, region, repo }
    }

    async fn import(&self) {
        let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "test".into() };
        let path = self.dir.path().join("app.git");
        self.region.importer().import(&path, "app", &options, Arc::new(ImportProgress::default())).await.unwrap();
    }

    fn main(&self) -> String {
        self.repo.git(&["rev-parse", "main"])
    }

    /// Whether an object may be asked for, in views that are warm and in new ones: it is sent, and known as a have.
    async fn may_have(&self, warm: &Views, id: &str) -> bool {
        let id = gix::ObjectId::from_hex(id.as_bytes()).unwrap();
        let warm = warm.open("app").await.unwrap().state().view.clone();
        let cold = Views::new(self.region.clone(), None).open("app").await.unwrap().state().view.clone();
        let main = gix::ObjectId::from_hex(self.main().as_bytes()).unwrap();
        let answers = [&warm, &cold].map(|view| {
            let sent = served(view, &[&format!("want {id}"), "done"]);
            let known = served(view, &[&format!("want {main}"), &format!("have {id}"), "wait-for-done"]);
            let known = String::from_utf8(known.unwrap()).unwrap().contains(&format!("ACK {id}"));
            match sent {
                Ok(pack) => assert!(known && !pack.is_empty(), "{id} is sent, but not known as a have"),
                Err(error) => assert!(!known && error == format!("upload-pack: not our ref {id}"), "{error}"),
            }
            known
        });
        assert_eq!(answers[0], answers[1], "it matters whether the repository was open");
        answers[0]
    }
}

/// What is answered to a fetch of version 2.
fn served(view: &View, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut request = Vec::new();
    let mut writer = PacketWriter::new(&mut request);
    writer.line(b"command=fetch").unwrap();
    writer.delimiter().unwrap();
    arguments.iter().for_each(|line| writer.line(line.as_bytes()).unwrap());
    writer.flush_packet().unwrap();
    let session = Session { version: Version::V2, stateless: true, ref_in_want: false, thorough: false, own: false };
    let mut heard = Vec::new();
    let cancel = AtomicBool::new(false);
    serve(view, &mut &request[..], session, &mut heard, &Limits::default(), &cancel)
        .map_err(|error| error.to_string())?;
    Ok(heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replaced_is_forgotten_after_ten_minutes() {
    let place = Place::new();
    for content in ["one\n", "two\n"] {
        place.repo.commit("main", "removed", content);
    }
    place.import().await;
    let views = Views::new(place.region.clone(), None);
    // No ref ever named the one in between, and none but `main` reaches it.
    let (first, between) = (place.main(), place.repo.git(&["rev-parse", "main~1"]));
    assert!(place.may_have(&views, &first).await && place.may_have(&views, &between).await);
    place.repo.git(&["update-ref", "refs/heads/main", "main~2"]);
    place.clock.pass(SignedDuration::from_mins(1));
    place.import().await;
    let second = place.main();
    place.clock.pass(SignedDuration::from_mins(9));
    assert!(place.may_have(&views, &first).await && place.may_have(&views, &second).await);
    assert!(place.may_have(&views, &between).await);
    // Nothing changes; only time passes.
    place.clock.pass(SignedDuration::from_mins(2));
    assert!(!place.may_have(&views, &first).await && place.may_have(&views, &second).await);
    assert!(!place.may_have(&views, &between).await);
    // A later change does not bring it back, and its own victim has its own time.
    place.repo.git(&["update-ref", "refs/heads/main", "main~1"]);
    place.repo.commit("main", "other", "way\n");
    place.import().await;
    place.clock.pass(SignedDuration::from_mins(5));
    assert!(!place.may_have(&views, &first).await && place.may_have(&views, &second).await);
    place.clock.pass(SignedDuration::from_mins(6));
    assert!(!place.may_have(&views, &second).await && place.may_have(&views, &place.main()).await);
}
