//! The steps that write a state in all public formats, by the command as far as it goes.
//!
//! `us-east-1` and `ap-south-1` are on the file system and in SQLite, `eu-west-1` is on S3 and DynamoDB. The link `dr`
//! leads from `us-east-1` to `eu-west-1`, `chain` from there to `ap-south-1`, `out` from `eu-west-1` to a Git server,
//! and `cc` from one Git server to another.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gitferry_base::clock::{Clock as _, SystemClock};
use gitferry_config::Config;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_replication::mirror::checkpoint::Hint;
use gitferry_service::delivery::job::PendingJob;
use gitferry_service::delivery::pending::PendingJobs;
use gitferry_store::table::lease::Waiter;
use serde_json::{Value, json};

use super::sources::{self, APP, BIG, BULK, BUSY, BUSY_COMMITS, HASHED, LOST, MANY, POINTERS, UPSTREAM};
use super::stand_ins::StandIns;
use super::state::{self, State};
use super::{AP, EU, US, aws};
use crate::aws::Emulator;
use crate::aws_region::AwsRegion;
use crate::backend::Backend;
use crate::git::GitRepo;
use crate::queues::{Bus, Queues};
use crate::waiting::block_on;
use crate::world::{Run, World};

/// Lets one pass of the crash point go by: both parts of an upload are stored, and the upload is not complete.
const AFTER_TWO_PARTS: &str = "copy-part=1*off->return";
/// Repositories of the link `dr`.
const OF_DR: [&str; 9] = [APP, "first", MANY, BULK, BIG, POINTERS, LOST, HASHED, "gone"];

/// Two Git servers, two regions on the file system and one on AWS, in a configuration.
pub struct Place {
    pub world: World,
    pub eu: AwsRegion,
    pub upstream: Backend,
    pub copy: Backend,
}

impl Place {
    /// An empty world, whose Git servers serve `sources/upstream` and `copy` in it. Writes a configuration, and makes no
    /// region.
    pub fn new() -> Place {
        let mut world = World::with(&[], "");
        let environment = Emulator::get().environment();
        world.environment.extend(environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let cache = world.path("cache").to_str().unwrap().to_owned();
        world.environment.push(("XDG_CACHE_HOME".into(), cache));
        let [upstream, copy] = ["sources/upstream", "copy"].map(|folder| Backend::serve(&world.path(folder)));
        let place = Place { world, eu: block_on(AwsRegion::new(EU)), upstream, copy };
        place.configure("", "");
        place
    }

    /// Writes the configuration; with more lines for `eu-west-1`, and more tables.
    pub fn configure(&self, of_eu: &str, more: &str) {
        let embedded = |name: &str| {
            format!(
                "[regions.{name}]\nobjects = \"file:{name}/objects\"\ntable = \"sqlite:{name}/table.db\"\n\
                 recovery_window = \"400d\"\n"
            )
        };
        let of_eu = format!("recovery_window = \"400d\"\n{of_eu}");
        let eu = self.eu.toml(Emulator::get().endpoint(), &of_eu);
        let remote = |name: &str, backend: &Backend| {
            format!("[remotes.{name}]\nurl = \"http://{}/{{name}}.git\"\n", backend.address)
        };
        let links = format!(
            "[links.dr]\nsource = \"{US}\"\ntarget = \"{EU}\"\nrepositories = {OF_DR:?}\n\
             [links.chain]\nsource = \"{EU}\"\ntarget = \"{AP}\"\n\
             [links.out]\nsource = \"{EU}\"\ntarget = \"copy\"\nrepositories = [\"{APP}\"]\n\
             [links.cc]\nsource = \"upstream\"\ntarget = \"copy\"\nrepositories = [\"team/app\"]\n\
             table = \"sqlite:cc.db\"\n"
        );
        let remotes = remote("upstream", &self.upstream) + &remote("copy", &self.copy);
        let text = [embedded(US), eu, embedded(AP), remotes, links, more.to_owned()].concat();
        std::fs::write(self.world.path("gitferry.toml"), text).unwrap();
    }

    /// Stand-ins for the texts that differ in every world.
    pub fn stand_ins(&self) -> StandIns {
        let mut stand_ins = StandIns::default();
        stand_ins.add(&self.eu.bucket, "<bucket>");
        stand_ins.add(&self.eu.table, "<table>");
        stand_ins.add(self.world.path("").to_str().unwrap().trim_end_matches('/'), "<dir>");
        stand_ins
    }

    /// Opens a region on the file system in this process.
    pub fn embedded(&self, name: &str) -> Region {
        let folder = self.world.path(name);
        Region::open_embedded(name, &folder.join("objects"), &folder.join("table.db")).unwrap()
    }

    /// Opens the region on AWS in this process.
    pub async fn aws(&self) -> Region {
        self.eu.open(Emulator::get().endpoint(), &self.world.path("cache-of-tests")).await
    }
}

/// A state that was written just now.
pub struct Written {
    pub place: Place,
    pub state: State,
    pub stand_ins: StandIns,
}

struct Scenario {
    place: Place,
    sources: PathBuf,
    outputs: Vec<Value>,
}

/// Writes the state in a world of its own, from the archive of [`sources`].
pub fn write(archive: &Path) -> Written {
    let place = Place::new();
    let sources = place.world.path("sources");
    sources::unpack(archive, &sources);
    let mut scenario = Scenario { place, sources, outputs: Vec::new() };
    scenario.first_changes();
    scenario.consolidated();
    scenario.delivered();
    scenario.mirrored();
    scenario.interrupted();
    let events = scenario.announced();
    scenario.pending();
    scenario.looked_at();
    scenario.finish(&events)
}

impl Scenario {
    fn source(&self, name: &str) -> GitRepo {
        sources::source(&self.sources, name)
    }

    /// Runs a command with `--json`, and keeps what it prints and its exit code.
    fn say(&mut self, code: i32, args: &[&str]) -> Run {
        let run = self.place.world.ends(code, &[args, &["--json"]].concat());
        for line in run.stdout.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            self.outputs.push(json!({ "command": args.join(" "), "code": code, "output": value }));
        }
        run
    }

    fn import(&mut self, name: &str, as_name: &str) {
        let path = self.source(name).path;
        self.say(0, &["import", path.to_str().unwrap(), as_name, "--region", US]);
    }

    /// Runs a command that dies at a crash point.
    fn dies(&self, point: &str, args: &[&str]) {
        let run = Run::of({
            let mut command = self.place.world.command(args);
            command.env("FAILPOINTS", point);
            command
        });
        assert!(run.status.code().is_none(), "it lives: {run:?}");
    }

    fn id(&self, name: &str) -> RepositoryId {
        self.place.world.show(name, US)["id"].as_str().unwrap().parse().unwrap()
    }

    /// Changes of all kinds in the first region.
    fn first_changes(&mut self) {
        self.say(0, &["region", "init"]);
        let app = self.source(APP);
        self.import(APP, "first");
        app.git(&["branch", "side", "main"]);
        app.git(&["tag", "-am", "version 1", "v1", "main"]);
        app.commit("main", "file", "step 2\n");
        app.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
        self.import(APP, "first");
        app.commit("main", "file", "step 3\n");
        app.git(&["notes", "add", "-m", "noted", "main"]);
        self.import(APP, "first");
        self.say(0, &["repo", "rename", "first", APP, "--region", US]);
        self.say(0, &["repo", "set-head", APP, "side", "--region", US]);
        self.say(0, &["repo", "create", "gone", "--region", US]);
        self.say(0, &["repo", "delete", "gone", "--region", US]);
        for name in [MANY, BULK, POINTERS, HASHED] {
            self.import(name, name);
        }
    }

    /// A repository whose packs are merged, except one that is damaged and set aside, and mended afterwards; a pack that
    /// no change names.
    fn consolidated(&mut self) {
        let busy = self.source(BUSY);
        let others = self.place.world.pack_files(US);
        let path = busy.path.to_str().unwrap();
        let import = ["import", path, BUSY, "--region", US];
        for n in 1..BUSY_COMMITS {
            busy.commit("main", "file", &format!("busy {n}\n"));
            self.place.world.ok(&import);
        }
        // Dies before it consolidates, which thus finds the damage.
        busy.commit("main", "file", &format!("busy {BUSY_COMMITS}\n"));
        self.dies("commit-after-head=return", &import);
        let damaged = self.place.world.pack_files(US).into_iter().find(|pack| !others.contains(pack)).unwrap();
        let sound = std::fs::read(&damaged).unwrap();
        let mut bytes = sound.clone();
        bytes[20] ^= 1;
        overwrite(&damaged, &bytes);
        let pack = "1".repeat(40);
        let nonce = "2".repeat(32);
        let key = keys::object_prefix(self.id(APP)) + &format!("/objects/pack/pack-{pack}-{nonce}.pack");
        let orphan = self.place.world.path(US).join("objects").join(key);
        std::fs::write(&orphan, b"an upload that was cut off").unwrap();
        let long_ago = SystemTime::from(SystemClock.now()) - Duration::from_secs(500 * 24 * 60 * 60);
        std::fs::File::options().write(true).open(&orphan).unwrap().set_modified(long_ago).unwrap();
        self.say(0, &["maintain", "--region", US, "--dry-run"]);
        self.say(0, &["maintain", "--region", US]);
        assert!(!orphan.exists());
        overwrite(&damaged, &sound);
        let region = self.place.embedded(US);
        let id = self.id(BUSY);
        block_on(async {
            let key = keys::consolidation_lease(id);
            // Dropped without its release: the holder died.
            drop(Waiter::new(region.shared_table(), region.shared_clock(), key).try_take().await.unwrap().unwrap());
        });
    }

    fn delivered(&mut self) {
        let run = self.say(0, &["backup", "dr", "--max-age", "1h", "--out", "manifest.json", "--deep"]);
        assert!(!run.stdout.is_empty());
        self.say(0, &["replicate", "chain", APP, MANY, POINTERS, HASHED]);
    }

    /// Passes to a Git server, whose checkpoints are in DynamoDB and in SQLite.
    fn mirrored(&mut self) {
        for name in [APP, "team/app"] {
            GitRepo::init(self.place.world.path(&format!("copy/{name}.git")), &[]);
        }
        self.say(0, &["explain", "out", APP]);
        self.say(0, &["replicate", "out"]);
        self.say(0, &["replicate", "cc"]);
        let upstream = self.source(UPSTREAM);
        upstream.commit("main", "file", "upstream 1\n");
        upstream.git(&["branch", "-D", "side"]);
        self.say(0, &["replicate", "cc"]);
        self.say(0, &["status", "cc"]);
    }

    /// A delivery that fails, and two that die between the parts of an upload: into S3, and onto the file system.
    fn interrupted(&mut self) {
        let before = self.place.world.pack_files(US);
        self.import(LOST, LOST);
        let packs = self.place.world.pack_files(US);
        let pack = packs.into_iter().find(|pack| !before.contains(pack)).unwrap();
        let aside = self.place.world.path("aside");
        std::fs::rename(&pack, &aside).unwrap();
        self.say(3, &["replicate", "dr", LOST]);
        std::fs::rename(&aside, &pack).unwrap();
        self.import(BIG, BIG);
        self.dies(AFTER_TWO_PARTS, &["replicate", "dr", BIG]);
        self.dies(AFTER_TWO_PARTS, &["replicate", "chain", BULK]);
    }

    /// One more change, which the target announces on a bus. Returns the events.
    fn announced(&mut self) -> Vec<Value> {
        let (queues, bus) = block_on(async {
            let queues = Queues::new().await;
            let bus = Bus::to(&queues).await;
            (queues, bus)
        });
        self.place.configure(&format!("events = \"eventbridge:{}\"\n", bus.name), "");
        let app = self.source(APP);
        app.commit("main", "file", "step 4\n");
        app.git(&["tag", "-d", "v1"]);
        self.import(APP, APP);
        self.say(0, &["replicate", "dr", APP]);
        self.place.configure("", "");
        let bodies = block_on(async {
            let client = aws_sdk_sqs::Client::new(&Emulator::get().sdk_config().await);
            let queue = Queues { client, ..queues }.open();
            let mut bodies = Vec::new();
            loop {
                let messages = queue.receive(Duration::from_secs(2)).await.unwrap();
                if messages.is_empty() && !bodies.is_empty() {
                    return bodies;
                }
                queue.delete(&messages).await.unwrap();
                bodies.extend(messages.into_iter().map(|message| message.body));
            }
        });
        // The pass to the Git server dies after its push.
        self.dies("remote-pushed=return", &["replicate", "out"]);
        // And the target lacks what comes last.
        app.commit("main", "file", "step 5\n");
        app.git(&["branch", "-D", "side"]);
        self.import(APP, APP);
        bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect()
    }

    /// Jobs of all kinds of links.
    fn pending(&self) {
        let place = &self.place;
        let id = self.id(APP);
        // The events announce a push that the state lacks: tests make it.
        let upstream = self.source(UPSTREAM);
        let new = upstream.commit("main", "file", "upstream 2\n").parse().unwrap();
        upstream.git(&["update-ref", "refs/heads/main", "main~1"]);
        let change = PendingJob::Change { id, seq: self.id_seq(APP) };
        block_on(async {
            PendingJobs::new(&place.aws().await, "dr").add(&change).await.unwrap();
            PendingJobs::new(&place.embedded(AP), "chain").add(&change).await.unwrap();
            let config = Config::load(&place.world.path("gitferry.toml")).unwrap();
            let link = gitferry_service::open::remote_link(&config, "cc").await.unwrap();
            let clock = SystemClock::shared();
            for hint in [Some(new), None].map(|new| Hint { reference: "refs/heads/main".into(), new }) {
                let job = PendingJob::Event { name: "team/app".into(), token: clock.new_id(), hint: Some(hint) };
                PendingJobs::of(&link).add(&job).await.unwrap();
            }
            let job = PendingJob::Event { name: "team/app".into(), token: clock.new_id(), hint: None };
            PendingJobs::of(&link).add(&job).await.unwrap();
        });
    }

    fn id_seq(&self, name: &str) -> u64 {
        self.place.world.show(name, US)["frontier"]["seq"].as_u64().unwrap()
    }

    /// Commands that change nothing.
    fn looked_at(&mut self) {
        std::fs::create_dir_all(self.place.world.path("export")).unwrap();
        self.say(0, &["export", APP, "--region", US, "--to", "export/app.git"]);
        for region in [US, EU, AP] {
            self.say(0, &["repo", "list", "--region", region, "--deleted"]);
            self.say(0, &["log", APP, "--region", region]);
        }
        self.say(0, &["repo", "show", APP, "--region", US]);
        self.say(3, &["status", "dr"]);
        self.say(1, &["verify", "dr"]);
        self.say(0, &["verify", APP, "--region", US, "--deep"]);
        self.say(0, &["config", "check"]);
        self.say(0, &["repair", APP, "--region", EU, "--from", US]);
        self.say(0, &["region", "init"]);
    }

    fn finish(self, events: &[Value]) -> Written {
        let Scenario { place, sources, outputs } = self;
        let dump = place.world.path("dump");
        std::fs::create_dir(&dump).unwrap();
        let lines = |file: &str, values: &[Value]| {
            let text: String = values.iter().map(|value| format!("{value}\n")).collect();
            std::fs::write(dump.join(file), text).unwrap();
        };
        let (items, objects, uploads) = block_on(async {
            let objects = aws::objects(&place.eu, &place.world.path(EU)).await;
            (aws::items(&place.eu).await, objects, aws::uploads(&place.eu).await)
        });
        lines(state::ITEMS, &items);
        lines(state::OBJECTS, &objects);
        lines(state::UPLOADS, &uploads);
        lines(state::EVENTS, events);
        lines(state::OUTPUTS, &outputs);
        std::fs::copy(place.world.path(state::MANIFEST), dump.join(state::MANIFEST)).unwrap();
        let mut refs = String::new();
        for name in [APP, MANY, BULK, BIG, POINTERS, LOST, HASHED, BUSY] {
            let listed = sources::source(&sources, name).git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
            let short = listed.lines().filter(|line| !line.contains("longlong"));
            refs.extend(short.map(|line| format!("{name} {line}\n")));
        }
        std::fs::write(dump.join(state::REFS), refs).unwrap();
        let state = State { world: place.world.path(""), dump };
        let stand_ins = place.stand_ins();
        Written { place, state, stand_ins }
    }
}

/// Writes other bytes into an object, whose file may not be written to.
fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}
