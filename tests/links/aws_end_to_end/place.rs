//! Two regions on S3 and DynamoDB with a host each, buses that their events go to, and a queue of the link's.

use std::sync::Arc;

use aws_config::SdkConfig;
use gitferry_base::clock::SystemClock;
use gitferry_engine::ledger::heads::read_head;
use gitferry_engine::region::Region;
use gitferry_service::delivery::job::PendingJob;
use gitferry_service::delivery::pending::PendingJobs;
use gitferry_service::events::outbox::read_outbox;
use gitferry_store::objects::s3::{S3Options, S3Store};
use gitferry_store::table::DynamoTable;
use serde_json::Value;

use crate::aws_end_to_end::git::GitRepo;
use gitferry_test_support::aws::{Emulator, REGION};
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::queues::{Bus, Queues};
use gitferry_test_support::running::Running;
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

/// What keeps a worker from finding anything by itself, but for what it looks at once when it starts.
pub const ONLY_EVENTS: [&str; 4] = ["--outbox-every", "1h", "--sweep-every", "1h"];

/// Where a region keeps its state, and its bus.
pub struct Stores {
    /// The account that owns them, where it is not that of the tests' credentials: a role is assumed there.
    account: Option<&'static str>,
    pub bucket: String,
    pub table: String,
    pub bus: Bus,
    /// What that bus fills.
    pub queues: Queues,
}

pub struct Place {
    /// The hosts: one process, which has no links and therefore replicates nothing.
    pub pair: Pair,
    /// The folder and the configuration of whoever replicates: the same regions, the link, no hosts.
    pub world: World,
    /// By [`US`] and [`EU`].
    pub stores: [Stores; 2],
    /// The same, as the library has them.
    regions: [Region; 2],
    pub repo: GitRepo,
}

async fn owner(account: Option<&str>) -> SdkConfig {
    match account {
        Some(account) => Emulator::get().sdk_config_in(account).await,
        None => Emulator::get().sdk_config().await,
    }
}

impl Stores {
    async fn new(account: Option<&'static str>) -> Stores {
        let owner = owner(account).await;
        let queues = Queues::impatient().await;
        let bus = Bus::to(&queues).await;
        let (bucket, table) = (Emulator::bucket_with(&owner).await, Emulator::table_with(&owner).await);
        Stores { account, bucket, table, bus, queues }
    }

    async fn open(&self, name: &str) -> Region {
        let sdk = owner(self.account).await;
        let options = S3Options { bucket: self.bucket.clone(), prefix: "git".into(), ..S3Options::default() };
        let table = DynamoTable::open(&sdk, &self.table, name);
        Region::new(name, Arc::new(S3Store::new(&sdk, options, name)), Arc::new(table), SystemClock::shared())
    }

    /// The region in a configuration whose AWS services are at `endpoint`.
    fn toml(&self, name: &str, endpoint: &str) -> String {
        let Stores { account, bucket, table, bus, .. } = self;
        // The bus is not in another account.
        let (role, events) = match account {
            Some(account) => (format!(", role_arn = \"arn:aws:iam::{account}:role/git\""), String::new()),
            None => (String::new(), format!("events = \"eventbridge:{}\"\n", bus.name)),
        };
        format!(
            "[regions.{name}]\nobjects = \"s3://{bucket}/git\"\ntable = \"dynamodb://{table}\"\n{events}\
             aws = {{ region = \"{REGION}\", endpoint_url = \"{endpoint}\"{role} }}\n",
        )
    }
}

impl Place {
    /// With a repository that is not pushed yet.
    pub async fn new() -> Place {
        Place::behind(Emulator::get().endpoint()).await
    }

    /// The same; the hosts' AWS services are at `endpoint`.
    pub async fn behind(endpoint: &str) -> Place {
        Place::on([Stores::new(None).await, Stores::new(None).await], endpoint).await
    }

    /// The second region is another account's.
    pub async fn across(account: &'static str) -> Place {
        let stores = [Stores::new(None).await, Stores::new(Some(account)).await];
        Place::on(stores, Emulator::get().endpoint()).await
    }

    async fn on(stores: [Stores; 2], endpoint: &str) -> Place {
        let regions = [stores[US].open(SOURCE).await, stores[EU].open(TARGET).await];
        let mut world = World::with(&[], "");
        let environment = Emulator::get().environment();
        world.environment.extend(environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let cache = |of: &str| ("XDG_CACHE_HOME".to_owned(), world.path(of).to_str().unwrap().to_owned());
        let (of_hosts, of_worker) = (cache("cache-of-hosts"), cache("cache"));
        let hosts = [&world.environment[..], &[of_hosts]].concat();
        let pair = Pair::on(
            |addresses| {
                let region = |at: usize| {
                    stores[at].toml(REGIONS[at], endpoint)
                        + &format!(
                            "[hosts.{}]\nlisten = \"{}\"\ncreate_on_push = true\nauth = \"none\"\n",
                            REGIONS[at], addresses[at]
                        )
                };
                region(US) + &region(EU)
            },
            hosts,
        );
        world.environment.push(of_worker);
        let repo = GitRepo::with_history(world.path("app.git"), &[]);
        let place = Place { pair, world, stores, regions, repo };
        place.configure(Emulator::get().endpoint());
        place
    }

    /// Configures whoever replicates; AWS's services are at `endpoint`.
    pub fn configure(&self, endpoint: &str) {
        let queues = self.queues();
        let link = format!(
            "queue = \"{}\"\ndead_letters = \"{}\"\naws = {{ region = \"{REGION}\", endpoint_url = \"{endpoint}\" }}\n",
            queues.url, queues.dead
        );
        std::fs::write(self.world.path("gitferry.toml"), self.config(endpoint, &link)).unwrap();
    }

    /// A configuration of the regions and the link.
    pub fn config(&self, endpoint: &str, link: &str) -> String {
        let regions = [US, EU].map(|at| self.stores[at].toml(REGIONS[at], endpoint));
        regions.concat() + &format!("[links.{LINK}]\nsource = \"{SOURCE}\"\ntarget = \"{TARGET}\"\n{link}")
    }

    /// What the source's events fill.
    pub fn queues(&self) -> &Queues {
        &self.stores[US].queues
    }

    /// Starts a worker that is told of nothing but events once it has looked around.
    pub async fn worker(&self) -> Running {
        self.worker_with(&[]).await
    }

    /// The same with more arguments.
    pub async fn worker_with(&self, more: &[&str]) -> Running {
        let worker = Running::start(&self.world, &[], &[&ONLY_EVENTS[..], more].concat());
        gitferry_test_support::waiting::eventually("it has looked around", async || {
            (worker.counter("sweeps"), worker.counter("outboxes")) == (1, 1)
        })
        .await;
        worker
    }

    /// Git pushes everything to the first region.
    pub fn push(&self) {
        self.push_as(&self.repo, "app");
    }

    pub fn push_as(&self, repo: &GitRepo, name: &str) {
        repo.git(&["push", "-q", "--mirror", &self.pair.url(US, name)]);
    }

    /// One more commit, pushed.
    pub fn commit(&self, content: &str) {
        self.repo.commit("main", "file", content);
        self.push();
    }

    /// Whether both regions are in the same state.
    pub async fn is_synced(&self) -> bool {
        self.is_synced_as("app").await
    }

    pub async fn is_synced_as(&self, name: &str) -> bool {
        let [source, target] = &self.regions;
        let Some(from) = source.repositories().find(name).await.unwrap() else { return false };
        let to = read_head(target.table(), from.id).await.unwrap();
        to.is_some_and(|to| to.head.frontier == from.head.frontier)
    }

    pub fn show(&self, name: &str) -> Value {
        self.world.show(name, SOURCE)
    }

    /// How many changes a repository has come through.
    pub fn changes(&self, name: &str) -> u64 {
        self.show(name)["frontier"]["seq"].as_u64().unwrap()
    }

    /// How many events announce the first push of the repository, which makes it: one for each ref.
    pub fn first_events(&self) -> usize {
        self.repo.refs().len()
    }

    /// Git clones from the other region what was pushed, both regions verify, and their ledgers are the same.
    pub fn assert_replicated(&self) {
        self.world.ok(&["verify", LINK, "--deep"]);
        self.assert_clones_as(&self.repo, "app");
    }

    /// Git clones it, and the ledgers of both regions are the same.
    pub fn assert_clones_as(&self, repo: &GitRepo, name: &str) {
        self.pair.assert_clones_as(repo, &self.pair.url(EU, name));
        let ledger = |region: &str| self.world.ok(&["log", name, "--region", region, "--json"]);
        assert_eq!(ledger(SOURCE), ledger(TARGET));
    }

    /// Repositories that a region has not announced all changes of.
    pub async fn unannounced(&self, at: usize) -> usize {
        read_outbox(self.regions[at].table()).await.unwrap().len()
    }

    /// Repositories that are due on the link.
    pub async fn marks(&self) -> Vec<PendingJob> {
        let target = &self.regions[EU];
        PendingJobs::new(target, LINK).read(target.clock().now()).await.unwrap()
    }
}
