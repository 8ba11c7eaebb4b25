//! The command on links between two servers behind HTTP.

use std::path::Path;

use serde_json::{Value, json};

use crate::remotes::git::{GitRepo, noise};
use crate::remotes::place::refs;
use gitferry_test_support::backend::Backend;
use gitferry_test_support::world::World;

/// Two servers with a repository `team/app` each, and the configuration of a link between them.
struct Servers {
    world: World,
    source: Backend,
    target: Backend,
    from: GitRepo,
    to: GitRepo,
}

impl Servers {
    fn start(more: &str) -> Servers {
        let world = World::with(&[], "");
        let from = GitRepo::with_history(world.path("us/team/app.git"), &[]);
        let to = GitRepo::init(world.path("eu/team/app.git"), &[]);
        let (source, target) = (Backend::serve(&world.path("us")), Backend::serve(&world.path("eu")));
        let servers = Servers { world, source, target, from, to };
        servers.configure(more);
        servers
    }

    fn configure(&self, more: &str) {
        let remote = |name: &str, backend: &Backend| {
            format!("[remotes.{name}]\nurl = \"http://{}/{{name}}.git\"\n", backend.address)
        };
        let link = "[links.cc]\nsource = \"us\"\ntarget = \"eu\"\nrepositories = [\"team/app\", \"team/*\"]\n";
        let text = [remote("us", &self.source), remote("eu", &self.target), link.into(), more.into()].concat();
        self.world.configure(&[], &text);
    }

    fn requests(&self) -> usize {
        self.source.requests().len() + self.target.requests().len()
    }

    fn assert_mirrored(&self) {
        assert_eq!(refs(&self.to), refs(&self.from));
        assert_eq!(self.to.reachable(), self.from.reachable());
        assert_eq!(self.to.fsck().0, Some(0));
    }
}

fn event(reference: &str, event: &str, commit: Option<&str>) -> String {
    let commit = commit.map_or(String::new(), |id| format!(", \"commitId\": \"{id}\""));
    format!(
        "{{\"version\": \"0\", \"id\": \"1\", \"source\": \"aws.codecommit\", \"account\": \"1\", \
          \"detail-type\": \"CodeCommit Repository State Change\", \"time\": \"2026-01-01T00:00:00Z\", \
          \"region\": \"us-east-1\", \"resources\": [\"arn:aws:codecommit:us-east-1:1:app\"], \
          \"detail\": {{\"event\": \"{event}\", \"repositoryName\": \"team/app\", \"repositoryId\": \"1\", \
          \"referenceType\": \"branch\", \"referenceName\": \"main\", \"referenceFullName\": \"{reference}\"{commit}}}}}"
    )
}

fn announced(servers: &Servers, text: &str) -> Value {
    std::fs::write(servers.world.path("event.json"), text).unwrap();
    servers.world.json(&["replicate", "cc", "--event", "event.json"])
}

#[test]
fn a_copy_over_http_and_what_comes_after() {
    let servers = Servers::start("");
    let summary = servers.world.json(&["replicate", "cc"]);
    servers.assert_mirrored();
    assert_eq!(json!([summary["delivered"], summary["failed"]]), json!([1, 0]), "{summary}");
    assert_eq!(summary["reports"][0]["carried"]["created"], refs(&servers.from).len());
    servers.from.commit("main", "new", "new\n");
    servers.from.git(&["branch", "-D", "side"]);
    let said = servers.world.ok(&["replicate", "cc"]);
    servers.assert_mirrored();
    assert!(said.contains("team/app: 1 updated, 1 deleted; 3 objects in 1 pack"), "{said}");
    servers.requests();
    let summary = servers.world.json(&["replicate", "cc"]);
    assert_eq!(json!([summary["unchanged"], summary["reports"]]), json!([1, []]));
    assert_eq!(servers.requests(), 2, "nothing new costs a request on either side");
}

#[test]
fn an_event_that_was_carried_before_asks_nobody() {
    let servers = Servers::start("table = \"sqlite:cc.db\"\n");
    servers.world.json(&["replicate", "cc"]);
    let new = servers.from.commit("main", "new", "new\n");
    let said = event("refs/heads/main", "referenceUpdated", Some(&new));
    assert_eq!(announced(&servers, &said)["delivered"], 1);
    servers.assert_mirrored();
    servers.requests();
    let again = announced(&servers, &said);
    assert_eq!(json!([again["unchanged"], again["delivered"]]), json!([1, 0]));
    assert_eq!(announced(&servers, &event("refs/pull/1/head", "referenceCreated", Some(&new)))["unchanged"], 1);
    assert_eq!(servers.requests(), 0);
    // Another value, or a deletion, is looked at.
    let old = servers.from.git(&["rev-parse", "main~1"]);
    announced(&servers, &event("refs/heads/main", "referenceUpdated", Some(&old)));
    assert_eq!(servers.requests(), 2);
    announced(&servers, &event("refs/heads/main", "referenceDeleted", None));
    assert_eq!(servers.requests(), 2);
}

#[test]
fn the_table_of_a_link_is_made_when_that_is_asked_for_and_never_by_opening() {
    let servers = Servers::start("table = \"sqlite:cc.db\"\n");
    servers.world.json(&["replicate", "cc"]);
    std::fs::rename(servers.world.path("cc.db"), servers.world.path("aside.db")).unwrap();
    for args in [&["status", "cc"][..], &["replicate", "cc"], &["explain", "cc", "team/app"]] {
        let run = servers.world.run(args);
        assert!(!run.status.success(), "{args:?}");
        run.says(&["link cc", "cc.db is missing", "gitferry region init"]);
    }
    assert!(!servers.world.path("cc.db").exists());
    servers.world.ok(&["region", "init"]);
    servers.world.json(&["replicate", "cc"]);
    let again = servers.world.ok(&["region", "init"]);
    assert!(again.contains("the table of link cc already exists"), "{again}");
}

#[test]
fn an_event_of_a_host_that_is_the_source_names_its_repository() {
    let servers = Servers::start("table = \"sqlite:cc.db\"\n");
    servers.world.json(&["replicate", "cc"]);
    let new = servers.from.commit("main", "new", "new\n");
    let id = "019a0000-0000-7000-8000-000000000001";
    let said = event("refs/heads/main", "referenceUpdated", Some(&new)).replace("aws.codecommit", "gitferry");
    let said = said.replace("\"repositoryId\": \"1\"", &format!("\"repositoryId\": \"{id}\""));
    assert_eq!(announced(&servers, &said)["delivered"], 1);
    servers.assert_mirrored();
    servers.requests();
    assert_eq!(announced(&servers, &said)["unchanged"], 1);
    assert_eq!(servers.requests(), 0);
}

#[test]
fn a_pass_that_dies_after_its_push_leaves_nothing_that_an_event_is_known_by() {
    let servers = Servers::start("table = \"sqlite:cc.db\"\n");
    servers.world.json(&["replicate", "cc"]);
    let new = servers.from.commit("main", "new", "new\n");
    let said = event("refs/heads/main", "referenceUpdated", Some(&new));
    assert_eq!(announced(&servers, &said)["delivered"], 1);
    servers.from.commit("main", "new", "in between\n");
    let died = servers.world.command(&["replicate", "cc"]).env("FAILPOINTS", "remote-pushed=return").output().unwrap();
    assert!(!died.status.success());
    servers.assert_mirrored();
    servers.from.git(&["update-ref", "refs/heads/main", &new]);
    assert_eq!(announced(&servers, &said)["delivered"], 1);
    servers.assert_mirrored();
    // From then on it is known again.
    servers.requests();
    assert_eq!(announced(&servers, &said)["unchanged"], 1);
    assert_eq!(servers.requests(), 0);
}

#[test]
fn explain_tells_and_changes_nothing() {
    let servers = Servers::start("");
    let first = servers.world.json(&["explain", "cc", "team/app"]);
    assert_eq!(json!([first["path"], first["create"]]), json!(["full", refs(&servers.from).len()]), "{first}");
    assert_eq!(first["objects"], servers.from.reachable().len(), "{first}");
    assert!(first["bytes"].as_u64().unwrap() > 1000 && first["bytes_at_least"].is_null(), "{first}");
    assert!(refs(&servers.to).is_empty());
    servers.world.ok(&["replicate", "cc"]);
    servers.from.commit("main", "new", "new\n");
    servers.from.git(&["branch", "-D", "side"]);
    servers.to.commit("topic/deep/er", "own", "made here\n");
    let before = refs(&servers.to);
    let told = servers.world.json(&["explain", "cc", "team/app"]);
    let count = |what: &str| told[what].as_u64().unwrap();
    assert_eq!(["create", "update", "force", "delete", "preserve"].map(count), [0, 1, 1, 1, 1], "{told}");
    assert_eq!(json!([told["path"], told["objects"]]), json!(["pass-through", 3]));
    let bytes = told["bytes"].clone();
    let text = servers.world.ok(&["explain", "cc", "team/app"]);
    for words in
        ["pass-through", "1 to force", "3 objects", "delete  refs/heads/side", "refs/gitferry/diverged/heads/topic"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(refs(&servers.to), before);
    // A pass does just that.
    let summary = servers.world.json(&["replicate", "cc"]);
    let carried = &summary["reports"][0]["carried"];
    assert_eq!(json!([carried["updated"], carried["deleted"], carried["preserved"]]), json!([2, 1, 1]));
    assert_eq!(carried["bytes"], bytes);
    let told = servers.world.json(&["explain", "cc", "team/app"]);
    assert_eq!(json!([told["path"], told["bytes"]]), json!(["none", 0]));
}

#[test]
fn a_pass_through_a_region_is_told_of_before_and_after() {
    let servers = Servers::start("");
    // Another history, of which nobody has heard at the source.
    let other = servers.to.commit("main", "own", "nothing in common\n");
    let told = servers.world.json(&["explain", "cc", "team/app"]);
    assert_eq!(told["path"], "full", "{told}");
    assert!(told["why"].as_str().unwrap().contains("via"), "{told}");
    let text = std::fs::read_to_string(servers.world.path("gitferry.toml")).unwrap();
    servers.world.configure(&["between"], &(text + "via = \"between\"\n"));
    let told = servers.world.json(&["explain", "cc", "team/app"]);
    assert_eq!(json!([told["path"], told["objects"], told["bytes"]]), json!(["region", null, null]), "{told}");
    assert!(servers.world.ok(&["explain", "cc", "team/app"]).contains("through a region: "));
    let said = servers.world.ok(&["replicate", "cc"]);
    assert!(said.contains("region between finds out") && said.contains("fetched into a region"), "{said}");
    let mut expected = refs(&servers.from);
    expected.insert(format!("refs/gitferry/diverged/heads/main/{}", &other[..12]), other);
    assert_eq!(refs(&servers.to), expected);
    assert_eq!(servers.to.fsck().0, Some(0));
}

#[test]
fn more_than_is_read_at_once_is_measured_when_that_is_asked() {
    let servers = Servers::start("");
    servers.from.commit_bytes("main", "large", &noise(5, 20 << 20));
    let told = servers.world.json(&["explain", "cc", "team/app"]);
    assert_eq!(json!([told["bytes"], told["bytes_at_least"]]), json!([null, 16 << 20]), "{told}");
    assert!(servers.world.ok(&["explain", "cc", "team/app"]).contains("over 16"));
    let told = servers.world.json(&["explain", "cc", "team/app", "--measure"]);
    let carried = servers.world.json(&["replicate", "cc"])["reports"][0]["carried"].clone();
    assert_eq!(json!([told["objects"], told["bytes"]]), json!([carried["objects"], carried["bytes"]]), "{told}");
}

#[test]
fn what_was_carried_once_is_known_although_only_a_glob_names_it() {
    let servers = Servers::start("table = \"sqlite:cc.db\"\n");
    servers.world.ok(&["replicate", "cc"]);
    let from = GitRepo::with_history(servers.world.path("us/team/other.git"), &[]);
    let to = GitRepo::init(servers.world.path("eu/team/other.git"), &[]);
    let looked_at = || servers.world.run(&["replicate", "cc", "--json"]).json()["repositories"].clone();
    assert_eq!(looked_at(), 1);
    // As an event would name it.
    servers.world.ok(&["replicate", "cc", "team/other"]);
    from.commit("main", "new", "nobody tells of it\n");
    assert_eq!(looked_at(), 2);
    assert_eq!(refs(&to), refs(&from));
    let status = servers.world.json(&["status", "cc"]);
    assert_eq!(status["repositories"].as_array().unwrap().len(), 2, "{status}");
    // When it is gone, that is told for a day: it may be that it is only not to be seen.
    let away = servers.world.path("away");
    std::fs::rename(&from.path, &away).unwrap();
    for _ in 0..2 {
        servers.world.ends(2, &["replicate", "cc"]).says(&["team/other", "there is no such repository"]);
    }
    assert!(!refs(&to).is_empty());
    std::fs::rename(&away, &from.path).unwrap();
    servers.world.ok(&["replicate", "cc"]);
    // A name that was never carried is not looked for.
    servers.world.ends(2, &["replicate", "cc", "team/mistyped"]).says(&["there is no such repository"]);
    assert_eq!(looked_at(), 2);
}

#[test]
fn status_tells_how_both_sides_stand() {
    let servers = Servers::start("table = \"sqlite:cc.db\"\n");
    let standing = || servers.world.run(&["status", "cc", "--json"]).json()["repositories"][0].clone();
    assert_eq!(standing()["standing"], "behind");
    servers.world.ok(&["replicate", "cc"]);
    assert_eq!(standing()["standing"], "equal");
    assert!(standing()["delivered"].is_string());
    servers.to.commit("main", "own", "made here\n");
    let run = servers.world.ends(1, &["status", "cc"]);
    assert!(run.stdout.contains("diverged"), "{}", run.stdout);
    std::fs::rename(&servers.to.path, servers.world.path("elsewhere")).unwrap();
    let run = servers.world.ends(3, &["status", "cc"]);
    assert!(run.stdout.contains("unreachable") && run.stdout.contains("no such repository"), "{}", run.stdout);
}

/// A row that cannot be read must not read as a link that has delivered nothing yet.
#[test]
fn status_reports_a_row_that_cannot_be_read() {
    let servers = Servers::start("table = \"sqlite:cc.db\"\n");
    servers.world.ok(&["replicate", "cc"]);
    let table = rusqlite::Connection::open(servers.world.path("cc.db")).unwrap();
    let spoil = |change: &str| {
        let changed = table.execute(&format!("UPDATE item SET document = {change} WHERE sk = 'remote/team/app'"), []);
        assert_eq!(changed.unwrap(), 1);
    };
    let status = || {
        let run = servers.world.ends(3, &["status", "cc", "--json"]);
        run.json()["repositories"][0].clone()
    };
    // The next pass ignores this row, and so does the standing.
    spoil("json_set(document, '$.delivered', 5)");
    let said = status();
    assert_eq!(said["standing"], "equal", "{said}");
    assert!(said["delivered"].is_null() && said["last_error"].as_str().unwrap().contains("is damaged"), "{said}");
    servers.world.ok(&["replicate", "cc"]);
    assert!(servers.world.json(&["status", "cc"])["repositories"][0]["last_error"].is_null());
    // The next pass fails on this one.
    spoil("json_set(document, '$.version', 99)");
    let said = status();
    assert_eq!(said["standing"], "unreachable", "{said}");
    assert!(said["last_error"].as_str().unwrap().contains("newer gitferry"), "{said}");
    let run = servers.world.ends(3, &["status", "cc"]);
    assert!(run.stdout.contains("team/app: the link's row of this repository cannot be read"), "{}", run.stdout);
}

#[test]
fn exit_codes_and_hints() {
    let servers = Servers::start("divergence = \"refuse\"\n");
    servers.world.ok(&["replicate", "cc"]);
    servers.to.commit("main", "own", "made here\n");
    let run = servers.world.ends(1, &["replicate", "cc"]);
    assert!(run.stdout.contains("refs/heads/main: diverged"), "{}", run.stdout);
    servers.world.ends(2, &["replicate", "cc", "other"]).says(&["there is no repository other"]);
    let missing = servers.world.ends(2, &["replicate", "cc", "team/missing"]);
    missing.says(&["there is no such repository", "hint: check `url`"]);
    // An empty source.
    let empty = GitRepo::init(servers.world.path("us/team/empty.git"), &[]);
    let full = GitRepo::with_history(servers.world.path("eu/team/empty.git"), &[]);
    servers.world.ends(2, &["replicate", "cc", "team/empty"]).says(&["has no refs", "--allow-empty"]);
    assert_eq!(refs(&full).len(), 7);
    drop(empty);
    servers.configure("deletions = \"keep\"\n");
    servers.world.ok(&["replicate", "cc", "team/empty"]);
    // Nobody can be asked for a list.
    servers.world.configure(&[], &config_without_names(&servers));
    servers.world.ends(2, &["replicate", "cc"]).says(&["cannot be listed", "hint: name repositories"]);
    for command in [&["verify", "cc"][..], &["backup", "cc", "--max-age", "1h"]] {
        servers.world.ends(2, command).says(&["a remote at one end"]);
    }
}

fn config_without_names(servers: &Servers) -> String {
    let text = std::fs::read_to_string(servers.world.path("gitferry.toml")).unwrap();
    text.replace("\"team/app\", ", "")
}

/// A server that breaks off is asked again.
#[test]
fn a_server_that_is_not_there_is_said() {
    let servers = Servers::start("table = \"sqlite:cc.db\"\n");
    let text = std::fs::read_to_string(servers.world.path("gitferry.toml")).unwrap();
    let nowhere = text.replace(&servers.target.address.to_string(), "127.0.0.1:1");
    servers.world.configure(&[], &nowhere);
    let run = servers.world.ends(3, &["replicate", "cc"]);
    run.says(&["127.0.0.1:1", "hint: refs that were pushed stay"]);
    let status = servers.world.run(&["status", "cc", "--json"]).json();
    assert!(status["repositories"][0]["last_error"].as_str().unwrap().contains("127.0.0.1:1"), "{status}");
}

/// Memory does not depend on what flows: 600 MB of noise.
#[test]
#[ignore = "takes a minute and a gigabyte of disk"]
fn memory_does_not_depend_on_the_pack() {
    let servers = Servers::start("");
    for n in 0..12 {
        servers.from.commit_bytes("big", &format!("file{n}"), &noise(n, 50 << 20));
    }
    let mut child = servers.world.command(&["replicate", "cc", "--json"]).spawn().unwrap();
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(anonymous_kib(child.id()).unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    println!("most anonymous memory: {most} KiB");
    assert!(most > 0 && most < 64 << 10, "{most} KiB");
    servers.assert_mirrored();
}

fn anonymous_kib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = text.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn names_are_those_that_the_servers_take() {
    let names = [".github", "libstdc++", "my project", "a/b/c/d", "50%", "x?y", "~ann/dots"];
    let world = World::with(&[], "");
    for name in names {
        GitRepo::with_history(world.path(&format!("us/{name}.git")), &[]);
        GitRepo::init(world.path(&format!("eu/{name}.git")), &[]);
    }
    let (source, target) = (Backend::serve(&world.path("us")), Backend::serve(&world.path("eu")));
    let config = |table: &str, names: &[&str]| {
        let remote = |name: &str, backend: &Backend| {
            format!("[remotes.{name}]\nurl = \"http://{}/{{name}}.git\"\n", backend.address)
        };
        let link = "[links.cc]\nsource = \"us\"\ntarget = \"eu\"\n";
        let text = format!("{}{}{link}repositories = {names:?}\n{table}", remote("us", &source), remote("eu", &target));
        world.configure(&[], &text);
    };
    let plain = names.map(|name| name.replace('?', "[?]"));
    let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
    for table in ["", "table = \"sqlite:cc.db\"\n"] {
        config(table, &plain);
        // One with wildcards is not looked at unless it is named.
        world.json(&["replicate", "cc"]);
        world.json(&["replicate", "cc", "x?y"]);
        for name in names {
            let at = |side: &str| GitRepo::at(world.path(&format!("{side}/{name}.git")));
            assert_eq!(refs(&at("us")), refs(&at("eu")), "{name}");
            at("us").commit("main", "more", "more\n");
        }
        let status = world.json(&["status", "cc"]);
        assert!(status.to_string().contains("libstdc++"), "{status}");
    }
    // What no server takes is refused when the configuration is read, and so is what a region does not take.
    for name in ["a//b", "../x", "x.git", "/x"] {
        config("", &[name]);
        let run = world.run(&["replicate", "cc"]);
        assert!(run.status.code() == Some(2) && run.stderr.contains("links.cc: repositories"), "{}", run.stderr);
    }
}

#[test]
fn refs_directly_below_refs_are_left_out_by_name() {
    let servers = Servers::start("");
    servers.from.git(&["update-ref", "refs/stash", "main"]);
    let summary = servers.world.json(&["replicate", "cc"]);
    let notes = &summary["reports"][0]["carried"]["notes"]["refs"];
    assert_eq!(notes[0]["name"], "refs/stash", "{summary}");
    assert!(notes[0]["reason"].as_str().unwrap().contains("directly below refs/"), "{summary}");
    let mut expected = refs(&servers.from);
    expected.remove("refs/stash");
    assert_eq!(refs(&servers.to), expected);
}
