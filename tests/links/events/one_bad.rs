//! One repository of three is damaged, in one row or object after the other: the other two are listed, told, verified,
//! exported, backed up and replicated by every command and by the worker, and the damaged one is named.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::running::Running;
use gitferry_test_support::waiting::wait;
use gitferry_test_support::world::{LINK, Run, SOURCE, TARGET, World};

const GOOD: [&str; 2] = ["fine", "good"];

/// Three repositories in sync, and one more commit of each that is only in the source.
struct Damaged {
    world: World,
    repos: Vec<(String, GitRepo)>,
    id: String,
}

impl Damaged {
    fn new() -> Damaged {
        let world = World::new();
        let repos = ["bad", "fine", "good"].map(|name| {
            let repo = GitRepo::init(world.path(&format!("{name}.git")), &[]);
            repo.commit("main", "file", name);
            world.import(&repo, name);
            (name.to_owned(), repo)
        });
        world.replicate();
        for (name, repo) in &repos {
            repo.commit("main", "file", "two");
            world.import(repo, name);
        }
        let id = world.show("bad", SOURCE)["id"].as_str().unwrap().to_owned();
        Damaged { world, repos: repos.into(), id }
    }

    fn table(&self, region: &str) -> Connection {
        Connection::open(self.world.path(region).join("table.db")).unwrap()
    }

    /// Runs SQL on a region's table, with the damaged repository's id as its parameter.
    fn sql(&self, region: &str, statement: &str) {
        let changed = self.table(region).execute(statement, [&self.id]).unwrap();
        assert!(changed > 0, "{statement}");
    }

    fn packs(&self, region: &str) -> Vec<PathBuf> {
        let packs: Vec<PathBuf> = self.world.pack_files(region);
        let packs: Vec<PathBuf> = packs.into_iter().filter(|path| path.to_str().unwrap().contains(&self.id)).collect();
        assert!(!packs.is_empty());
        packs
    }

    fn commit_to_the_good(&self, content: &str) {
        for (name, repo) in self.repos.iter().filter(|(name, _)| GOOD.contains(&name.as_str())) {
            repo.commit("main", "file", content);
            self.world.import(repo, name);
        }
    }

    fn is_synced(&self, name: &str) -> bool {
        let target = self.world.run(&["repo", "show", name, "--region", TARGET, "--json"]);
        target.status.success() && target.json()["frontier"] == self.world.show(name, SOURCE)["frontier"]
    }

    fn names_the_damage(&self, run: &Run) -> bool {
        let all = format!("{}{}", run.stdout, run.stderr);
        run.status.code() != Some(0) && (all.contains("bad") || all.contains(&self.id))
    }
}

/// Which commands have to notice.
#[derive(Clone, Copy, PartialEq)]
enum Noticed {
    /// All that look at the repository, and the worker's counters.
    Everywhere,
    /// The same without the counters: the worker's log says it.
    ByCommands,
    /// Those that prove.
    ByProof,
    /// A hint or a statistic: nothing is lost with it.
    Nowhere,
}

use Noticed::{ByCommands, ByProof, Everywhere, Nowhere};

const HEAD: &str = "pk = 'repository/' || ?1 AND sk = 'head'";
const MANIFEST: &str = "pk = 'repository/' || ?1 AND sk = 'manifest'";
const CHANGES: &str = "pk = 'repository/' || ?1 AND sk LIKE 'change/%'";
const LISTING: &str = "pk LIKE 'repositories/%' AND sk = ?1";
const NAME: &str = "pk = 'name/bad' AND ?1 <> ''";
const OUTBOX: &str = "pk LIKE 'outbox/%' AND sk = ?1";
const LINK_ROW: &str = "pk = 'link/dr' AND sk = ?1";

#[test]
fn a_damaged_row_or_object_takes_nothing_from_the_others() {
    let set = |what: &str, value: &str| format!("UPDATE item SET document = {value} WHERE {what}");
    let delete = |what: &str| format!("DELETE FROM item WHERE {what}");
    let put = |pk: &str, sk: &str| {
        format!("INSERT INTO item (pk, sk, revision, document) VALUES ({pk}, {sk}, 1, '{{\"strange\":1}}')")
    };
    let format = "replace(document, '\"format\":\"sha1\"', '\"format\":\"sha7\"')";
    let rows: Vec<(&str, String, Noticed)> = vec![
        (SOURCE, set(HEAD, format), Everywhere),
        (SOURCE, set(HEAD, "'not JSON'"), Everywhere),
        (SOURCE, delete(HEAD), Everywhere),
        (SOURCE, set(MANIFEST, "'{\"generation\":\"x\"}'"), ByProof),
        (SOURCE, delete(MANIFEST), ByProof),
        (SOURCE, set(CHANGES, "'{\"seq\":-1}'"), Everywhere),
        (SOURCE, delete(CHANGES), Everywhere),
        (SOURCE, format!("UPDATE item SET sk = 'zz-strange-' || sk WHERE {LISTING}"), ByCommands),
        (SOURCE, set(NAME, "'{}'"), ByProof),
        (SOURCE, delete(NAME), ByProof),
        (SOURCE, set(OUTBOX, "'{\"seq\":\"x\"}'"), Nowhere),
        (SOURCE, format!("UPDATE item SET sk = 'zz-strange' WHERE {OUTBOX}"), Nowhere),
        (TARGET, set(HEAD, format), Everywhere),
        (TARGET, set(HEAD, "'not JSON'"), Everywhere),
        (TARGET, delete(HEAD), ByProof),
        (TARGET, set(MANIFEST, "'{}'"), ByProof),
        (TARGET, delete(MANIFEST), ByProof),
        (TARGET, set(LINK_ROW, "'{\"delivered\":7}'"), Nowhere),
        (TARGET, put("'due/dr'", "?1 || '/x'"), Nowhere),
        (TARGET, put("'repository/' || ?1", "'staging/x'"), Nowhere),
        (TARGET, put("'verified/dr'", "?1"), Nowhere),
        // Rows that are no JSON at all.
        (SOURCE, set(MANIFEST, "'not JSON'"), ByProof),
        (SOURCE, set(CHANGES, "'not JSON'"), Everywhere),
        (SOURCE, set(LISTING, "'not JSON'"), Nowhere),
        (SOURCE, set(NAME, "'not JSON'"), ByProof),
        (SOURCE, set(OUTBOX, "'not JSON'"), Nowhere),
        (TARGET, set(LINK_ROW, "'not JSON'"), Nowhere),
        (TARGET, put("'due/dr'", "?1 || '/x'").replace("'{\"strange\":1}'", "'not JSON'"), Nowhere),
        (TARGET, put("'repository/' || ?1", "'staging/x'").replace("'{\"strange\":1}'", "'not JSON'"), Nowhere),
        (TARGET, put("'verified/dr'", "?1").replace("'{\"strange\":1}'", "'not JSON'"), Nowhere),
        (SOURCE, put("'aside'", "?1 || '/x'").replace("'{\"strange\":1}'", "'not JSON'"), Nowhere),
    ];
    for (region, statement, noticed) in rows {
        let damaged = Damaged::new();
        damaged.sql(region, &statement);
        check(&damaged, &format!("{region}: {statement}"), noticed);
    }
}

#[test]
fn a_missing_or_damaged_pack_takes_nothing_from_the_others() {
    for (region, gone) in [(SOURCE, true), (SOURCE, false), (TARGET, true), (TARGET, false)] {
        let damaged = Damaged::new();
        for pack in damaged.packs(region) {
            let bytes = fs::read(&pack).unwrap();
            fs::remove_file(&pack).unwrap();
            if !gone {
                fs::write(&pack, &bytes[..bytes.len() - 1]).unwrap();
            }
        }
        check(&damaged, &format!("packs of {region}, gone: {gone}"), ByProof);
    }
}

fn check(damaged: &Damaged, what: &str, noticed: Noticed) {
    let world = &damaged.world;
    let pass = world.run(&["replicate", LINK, "--json"]);
    let status = world.run(&["status", LINK, "--json"]);
    let verify = world.run(&["verify", LINK, "--json"]);
    let backup = world.run(&["backup", LINK, "--max-age", "1h", "--json"]);
    for name in GOOD {
        assert!(damaged.is_synced(name), "{what}: {name} after a pass\n{}{}", pass.stdout, pass.stderr);
        let of = |run: &Run, name: &str| {
            let all = run.json()["repositories"].as_array().unwrap_or_else(|| panic!("{what}: {}", run.stdout)).clone();
            all.iter().filter(|one| one["repository"] == name).cloned().collect::<Vec<_>>()
        };
        assert_eq!(of(&status, name)[0]["standing"], "equal", "{what}: {}", status.stdout);
        assert_eq!(of(&verify, name).len(), 2, "{what}: {}", verify.stdout);
        assert_eq!(of(&backup, name)[0]["verified"], true, "{what}: {}", backup.stdout);
    }
    for region in [SOURCE, TARGET] {
        let listed = world.run(&["repo", "list", "--region", region]);
        assert!(GOOD.iter().all(|name| listed.stdout.contains(name)), "{what}: {}{}", listed.stdout, listed.stderr);
    }
    let proofs = [&verify, &backup];
    match noticed {
        Everywhere | ByCommands => {
            assert!([&pass, &status].iter().all(|run| damaged.names_the_damage(run)), "{what}: {pass:?}")
        }
        ByProof => assert!(proofs.iter().any(|run| damaged.names_the_damage(run)), "{what}: {verify:?} {backup:?}"),
        Nowhere => assert_eq!(status.status.code(), Some(0), "{what}: {status:?}"),
    }
    // And with the worker.
    let worker = Running::start(world, &[], &["--outbox-every", "200ms", "--sweep-every", "500ms"]);
    damaged.commit_to_the_good("three");
    wait(&format!("{what}: the worker delivers the others"), || GOOD.iter().all(|name| damaged.is_synced(name)));
    if noticed == Everywhere {
        wait(&format!("{what}: the worker counts the damage"), || worker.counter("failed") > 0);
    }
    assert_eq!(worker.stop().0, Some(0), "{what}");
}
