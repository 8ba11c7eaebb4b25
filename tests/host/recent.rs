//! What a force-push replaced may be fetched for ten minutes, and not a moment longer.

use std::sync::{Arc, Mutex};

use gitferry::clock::Clock;
use gitferry::git::local::RefPatterns;
use gitferry::host::views::Views;
use gitferry::region::Region;
use gitferry::region::import::{ImportOptions, ImportProgress};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::git::GitRepo;

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
        let region = Region { clock: clock.clone(), ..region };
        let repo = GitRepo::with_history(dir.path().join("app.git"), &[]);
        Place { dir, clock, region, repo }
    }

    async fn import(&self) {
        let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "test".into() };
        let path = self.dir.path().join("app.git");
        self.region.import(&path, "app", &options, Arc::new(ImportProgress::default())).await.unwrap();
    }

    fn main(&self) -> String {
        self.repo.git(&["rev-parse", "main"])
    }

    /// Whether an object may be asked for, in views that are warm and in new ones.
    async fn may_have(&self, warm: &Views, id: &str) -> bool {
        let id = gix::ObjectId::from_hex(id.as_bytes()).unwrap();
        let warm = warm.open("app").await.unwrap().state.view.is_tip(&id);
        let cold = Views::new(self.region.clone(), None).open("app").await.unwrap().state.view.is_tip(&id);
        assert_eq!(warm, cold, "it matters whether the repository was open");
        warm
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replaced_is_forgotten_after_ten_minutes() {
    let place = Place::new();
    place.import().await;
    let views = Views::new(place.region.clone(), None);
    let first = place.main();
    assert!(place.may_have(&views, &first).await);
    place.repo.git(&["update-ref", "refs/heads/main", "main~1"]);
    place.clock.pass(SignedDuration::from_mins(1));
    place.import().await;
    let second = place.main();
    place.clock.pass(SignedDuration::from_mins(9));
    assert!(place.may_have(&views, &first).await && place.may_have(&views, &second).await);
    // Nobody changes anything; only time passes.
    place.clock.pass(SignedDuration::from_mins(2));
    assert!(!place.may_have(&views, &first).await && place.may_have(&views, &second).await);
    // A later change does not bring it back, and its own victim has its own time.
    place.repo.commit("main", "other", "way\n");
    place.import().await;
    place.clock.pass(SignedDuration::from_mins(5));
    assert!(!place.may_have(&views, &first).await && place.may_have(&views, &second).await);
    place.clock.pass(SignedDuration::from_mins(6));
    assert!(!place.may_have(&views, &second).await && place.may_have(&views, &place.main()).await);
}
