//! A link whose both ends are behind proxies that may spoil what flows.

use std::collections::BTreeMap;

use crate::remotes_servers::git::{GitRepo, noise};
use crate::remotes_servers::server::NAME;
use gitferry_test_support::backend::Backend;
use gitferry_test_support::spoiler::{Plan, Spoil, Spoiler, Way};
use gitferry_test_support::world::World;

/// The region at the end, where there is one.
const REGION: &str = "here";
/// How long a server may say nothing; and where it does say nothing.
const PATIENCE: &str = "60s";
const IMPATIENCE: &str = "500ms";

/// Where a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Server,
    Region,
}

/// Before which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Target,
}

/// What a seed spoils; a region is not behind a proxy.
pub fn faults(to: To, seed: u64) -> (Side, Plan) {
    let bytes = noise(seed + 1, 64);
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let what = [Spoil::Cut, Spoil::Truncate, Spoil::Corrupt, Spoil::Delay, Spoil::Stall][number(0) as usize % 5];
    let side = match to {
        To::Server => [Side::Source, Side::Target][number(8) as usize % 2],
        To::Region => Side::Source,
    };
    // A pack flows one way.
    let way = match (what, side) {
        (Spoil::Corrupt, Side::Source) => Way::ToClient,
        (Spoil::Corrupt, Side::Target) => Way::ToServer,
        _ => [Way::ToServer, Way::ToClient][number(16) as usize % 2],
    };
    // Heads and lists of refs are at the beginning, and most bytes are a pack's.
    let room = [300, 3_000, 1_500_000][number(24) as usize % 3];
    (side, Plan { way, what, at: number(32) % room })
}

/// A source that has changed since the last pass in every way that there is, and its target.
pub struct Damaged {
    world: World,
    to: To,
    from: GitRepo,
    /// The target, unless that is a region.
    there: GitRepo,
    before_source: Spoiler,
    before_target: Spoiler,
    old: BTreeMap<String, String>,
}

impl Damaged {
    pub fn new(to: To, seed: u64) -> Damaged {
        let world = World::with(&[], "");
        let from = GitRepo::with_history(world.path(&format!("from/{NAME}.git")), &[]);
        let there = GitRepo::init(world.path(&format!("to/{NAME}.git")), &[]);
        let proxy = |folder: &str| Spoiler::start(Backend::serve(&world.path(folder)).address);
        let (before_source, before_target) = (proxy("from"), proxy("to"));
        let mut damaged = Damaged { world, to, from, there, before_source, before_target, old: BTreeMap::new() };
        damaged.configure(PATIENCE);
        damaged.world.ok(&["replicate", "cc"]);
        damaged.change(seed);
        damaged.old = damaged.target_refs();
        damaged
    }

    fn configure(&self, silence: &str) {
        let remote = |name: &str, proxy: &Spoiler| {
            let url = format!("url = \"http://{}/{{name}}.git\"", proxy.address);
            format!("[remotes.{name}]\n{url}\nlimits = {{ silence = \"{silence}\" }}\n")
        };
        let target = if self.to == To::Server { "there" } else { REGION };
        let link = format!("[links.cc]\nsource = \"far\"\ntarget = \"{target}\"\nrepositories = [\"{NAME}\"]\n");
        let regions: &[&str] = if self.to == To::Server { &[] } else { &[REGION] };
        let remotes = [remote("far", &self.before_source), remote("there", &self.before_target)].concat();
        self.world.configure(regions, &(remotes + &link));
    }

    /// Something is made, moved, forced and deleted at the source, and something made at the target.
    fn change(&self, seed: u64) {
        let from = &self.from;
        if self.to == To::Server {
            self.there.commit("topic/deep/er", "own", "made here\n");
        }
        // Both sides of what is sent at once and what is streamed.
        let bytes = if seed.is_multiple_of(2) { 20_000 } else { 1_300_000 };
        from.commit_bytes("bulk", "bulk", &noise(seed + 7, bytes));
        from.git(&["update-ref", "refs/heads/main", "main~2"]);
        from.commit("main", "dir/file1", "another way\n");
        from.commit("topic/deep/er", "new", "new\n");
        from.git(&["branch", "-D", "side"]);
        from.git(&["tag", "-am", "three", "v3", "main"]);
    }

    /// The target's refs; what they name must be whole.
    fn target_refs(&self) -> BTreeMap<String, String> {
        let repo = match self.to {
            To::Server => self.there.clone(),
            To::Region => {
                self.world.ok(&["verify", NAME, "--region", REGION, "--deep"]);
                let to = self.world.fresh("export");
                self.world.ok(&["export", NAME, "--region", REGION, "--to", to.to_str().unwrap()]);
                GitRepo::at(to)
            }
        };
        assert_eq!(repo.fsck().0, Some(0), "{:?}", repo.fsck());
        refs(&repo)
    }

    /// A pass on a spoiled way. Whether it failed, as it may: what it leaves is neither damaged nor wrong.
    pub fn spoiled_pass(&self, side: Side, plan: Plan) -> bool {
        let spoiler = if side == Side::Source { &self.before_source } else { &self.before_target };
        self.configure(if plan.what == Spoil::Stall { IMPATIENCE } else { PATIENCE });
        spoiler.plan(Some(plan));
        let run = self.world.run(&["replicate", "cc", "--json"]);
        spoiler.plan(None);
        self.configure(PATIENCE);
        println!("{side:?} {plan:?}: {} {}", run.status, run.stderr.trim_end());
        assert!(matches!(run.status.code(), Some(0..=3)) && !run.stderr.contains("panicked"), "{}", run.stderr);
        let (new, now) = (refs(&self.from), self.target_refs());
        for name in self.old.keys().chain(new.keys()).chain(now.keys()) {
            let value = now.get(name);
            let kept = name.starts_with("refs/gitferry/diverged/") && self.old.values().any(|old| value == Some(old));
            let right = value == self.old.get(name) || value == new.get(name);
            assert!(right || kept, "{side:?} {plan:?}: {name} is {value:?}");
        }
        if run.status.success() {
            self.assert_mirrored();
        }
        let had_reason = spoiler.spoiled() > 0 || plan.what == Spoil::Stall;
        assert!(run.status.success() || had_reason, "{side:?} {plan:?}: it failed by itself");
        !run.status.success()
    }

    /// A pass on a way that is as it should be.
    pub fn next_pass(&self) {
        self.world.ok(&["replicate", "cc"]);
        self.assert_mirrored();
    }

    /// The target has the source's refs, and what was made there is kept once.
    fn assert_mirrored(&self) {
        let mut expected = refs(&self.from);
        if self.to == To::Server {
            let own = self.old["refs/heads/topic/deep/er"].clone();
            expected.insert(format!("refs/gitferry/diverged/heads/topic/deep/er/{}", &own[..12]), own);
        }
        assert_eq!(self.target_refs(), expected);
    }
}

fn refs(repo: &GitRepo) -> BTreeMap<String, String> {
    let lines = repo.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
    lines.lines().map(|line| line.split_once(' ').map(|(name, id)| (name.into(), id.into())).unwrap()).collect()
}
