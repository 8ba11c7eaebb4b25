//! Two embedded regions and a link between them, as the library has them and as the command has them.

use std::path::PathBuf;
use std::sync::Arc;

use gitferry_config::Config;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::Region;
use gitferry_replication::link::Link;
use gitferry_replication::transfer::PARTS_IN_MEMORY;
use serde_json::Value;

use gitferry_test_support::git::GitRepo;
pub use gitferry_test_support::waiting::{block_on, eventually, wait};
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

pub struct Place {
    pub world: World,
    pub repo: GitRepo,
}

impl Place {
    /// With more lines for the link, and a repository `app` in the source.
    pub fn new(link: &str) -> Place {
        let world = World::with(&[SOURCE, TARGET], &link_toml(link));
        let repo = GitRepo::with_history(world.path("app.git"), &[]);
        world.import(&repo, "app");
        Place { world, repo }
    }

    /// One more commit in the source.
    pub fn commit(&self, content: &str) {
        self.repo.commit("main", "file", content);
        self.world.import(&self.repo, "app");
    }

    /// The repository as the source has it.
    pub fn show(&self) -> Value {
        self.world.show("app", SOURCE)
    }

    pub fn id(&self) -> RepositoryId {
        self.show()["id"].as_str().unwrap().parse().unwrap()
    }

    pub fn region(&self, name: &str) -> Region {
        let folder = self.world.path(name);
        Region::open_embedded(name, &folder.join("objects"), &folder.join("table.db")).unwrap()
    }

    pub fn link(&self) -> Link {
        let config = Config::load(&self.config()).unwrap();
        Link {
            name: LINK.into(),
            source: self.region(SOURCE),
            target: self.region(TARGET),
            repositories: config.links[LINK].carried_names().unwrap(),
            mode: Default::default(),
            active_links: vec![LINK.to_owned()].into(),
            account_links: Arc::new([]),
            memory: Arc::new(tokio::sync::Semaphore::new(PARTS_IN_MEMORY)),
            progress: Default::default(),
        }
    }

    pub fn config(&self) -> PathBuf {
        self.world.path("gitferry.toml")
    }

    /// Whether both regions have the same state of the repository.
    pub fn is_synced(&self) -> bool {
        let target = self.world.run(&["repo", "show", "app", "--region", TARGET, "--json"]);
        target.status.success() && target.json()["frontier"] == self.show()["frontier"]
    }
}

pub fn link_toml(more: &str) -> String {
    format!("[links.{LINK}]\nsource = \"{SOURCE}\"\ntarget = \"{TARGET}\"\n{more}\n")
}
