//! More than one link: chains, fans, rivals.

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{SOURCE, TARGET, World};

const CHAIN: &str = "[links.ab]\nsource = \"a\"\ntarget = \"b\"\n[links.bc]\nsource = \"b\"\ntarget = \"c\"\n";

/// The ledger as a region tells it.
fn ledger(world: &World, region: &str) -> String {
    world.ok(&["log", "app", "--region", region, "--json", "--edits", "0"])
}

fn import(world: &World, repo: &GitRepo, region: &str) {
    world.ok(&["import", repo.path.to_str().unwrap(), "app", "--region", region]);
}

#[test]
fn a_chain_of_links_carries_one_ledger() {
    let world = World::with(&["a", "b", "c"], CHAIN);
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    import(&world, &repo, "a");
    for step in 0..3 {
        world.ok(&["replicate", "ab"]);
        world.ok(&["replicate", "bc"]);
        for link in ["ab", "bc"] {
            world.ok(&["verify", link, "--deep"]);
        }
        assert_eq!(ledger(&world, "a"), ledger(&world, "b"));
        assert_eq!(ledger(&world, "a"), ledger(&world, "c"));
        world.assert_exports_as(&repo, "app", "c");
        assert_eq!(world.show("app", "c")["region"], "a");
        repo.commit("main", "file", &format!("{step}\n"));
        repo.git(&["update-ref", &format!("refs/tags/{step}"), "main"]);
        import(&world, &repo, "a");
    }
    world.ok(&["repo", "rename", "app", "web", "--region", "a"]);
    world.ok(&["replicate", "ab"]);
    world.ok(&["replicate", "bc"]);
    world.assert_exports_as(&repo, "web", "c");
}

#[test]
fn one_source_may_have_many_targets() {
    let links = "[links.ab]\nsource = \"a\"\ntarget = \"b\"\n[links.ac]\nsource = \"a\"\ntarget = \"c\"\n";
    let world = World::with(&["a", "b", "c"], links);
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    import(&world, &repo, "a");
    for link in ["ab", "ac"] {
        world.ok(&["replicate", link]);
        world.ok(&["verify", link, "--deep"]);
    }
    let shown: Vec<serde_json::Value> = serde_json::Deserializer::from_str(&world.ok(&["status", "--json"]))
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    let standing = |link: &serde_json::Value| (link["link"].clone(), link["repositories"][0]["standing"].clone());
    let all: Vec<_> = shown.iter().map(standing).collect();
    assert_eq!(all, [("ab".into(), "equal".into()), ("ac".into(), "equal".into())]);
}

fn rivals(mode: &str) -> String {
    format!("{CHAIN}[links.ac]\nsource = \"a\"\ntarget = \"c\"\n{mode}\n")
}

#[test]
fn a_second_active_link_to_one_target_is_refused() {
    let world = World::with(&["a", "b", "c"], &rivals(""));
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    import(&world, &repo, "a");
    world.ok(&["replicate", "ac"]);
    world.ok(&["replicate", "ab"]);
    repo.commit("main", "more", "more\n");
    import(&world, &repo, "a");
    world.ok(&["replicate", "ab"]);
    let before = world.show("app", "c");
    world.ends(2, &["replicate", "bc"]).says(&["app", "link ac already delivers it to c", "standby"]);
    assert_eq!(world.show("app", "c"), before);
    // The one that was first goes on.
    world.ok(&["replicate", "ac"]);
    world.assert_exports_as(&repo, "app", "c");
    // Once it is gone from the configuration, the other takes over.
    world.configure(&["a", "b", "c"], CHAIN);
    repo.commit("main", "more", "still more\n");
    import(&world, &repo, "a");
    world.ok(&["replicate", "ab"]);
    world.ok(&["replicate", "bc"]);
    world.assert_exports_as(&repo, "app", "c");
}

#[test]
fn a_standby_link_may_deliver_what_an_active_one_delivers() {
    let world = World::with(&["a", "b", "c"], &rivals("mode = \"standby\""));
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    import(&world, &repo, "a");
    for (round, link) in ["ab", "bc", "ac", "ac", "ab", "bc"].into_iter().enumerate() {
        world.ok(&["replicate", link]);
        repo.commit("main", "more", &format!("{round}\n"));
        import(&world, &repo, "a");
    }
    for link in ["ab", "ac", "bc"] {
        world.ok(&["replicate", link]);
        world.ok(&["verify", link, "--deep"]);
    }
    assert_eq!(ledger(&world, "a"), ledger(&world, "c"));
    world.assert_exports_as(&repo, "app", "c");
}

#[test]
fn a_standby_that_comes_first_does_not_shut_out_the_active_link() {
    let world = World::with(&["a", "b", "c"], &rivals("mode = \"standby\""));
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    import(&world, &repo, "a");
    world.ok(&["replicate", "ac"]);
    world.ok(&["replicate", "ab"]);
    repo.commit("main", "more", "more\n");
    import(&world, &repo, "a");
    world.ok(&["replicate", "ab"]);
    world.ok(&["replicate", "bc"]);
    world.assert_exports_as(&repo, "app", "c");
}

#[test]
fn a_target_that_another_link_brought_further_is_no_fork() {
    let world = World::with(&["a", "b", "c"], &rivals("mode = \"standby\""));
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    import(&world, &repo, "a");
    world.ok(&["replicate", "ab"]);
    repo.commit("main", "more", "more\n");
    import(&world, &repo, "a");
    world.ok(&["replicate", "ac"]);
    let before = world.show("app", "c");
    assert_eq!(world.json(&["replicate", "bc"])["unchanged"], 1);
    assert_eq!(world.show("app", "c"), before);
    assert_eq!(world.json(&["status", "bc"])["repositories"][0]["standing"], "ahead");
    world.ends(1, &["verify", "bc"]);
    world.ok(&["replicate", "ab"]);
    world.ok(&["verify", "bc", "--deep"]);
}

#[test]
fn two_regions_may_replicate_to_each_other() {
    let links = "[links.ab]\nsource = \"a\"\ntarget = \"b\"\n[links.ba]\nsource = \"b\"\ntarget = \"a\"\n";
    let world = World::with(&["a", "b"], links);
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    for round in 0..3 {
        // Each region writes one of its own.
        for region in ["a", "b"] {
            repo.commit("main", region, &format!("{round}\n"));
            world.ok(&["import", "src.git", &format!("of-{region}"), "--region", region]);
        }
        for link in ["ab", "ba"] {
            assert_eq!(world.json(&["replicate", link])["delivered"], 1);
            assert_eq!(world.json(&["replicate", link])["unchanged"], if round == 0 && link == "ab" { 1 } else { 2 });
        }
        for link in ["ab", "ba"] {
            world.ok(&["verify", link, "--deep"]);
        }
    }
}

#[test]
fn a_link_carries_what_its_globs_say() {
    let links =
        format!("[links.dr]\nsource = \"{SOURCE}\"\ntarget = \"{TARGET}\"\nrepositories = [\"team/*\", \"solo\"]\n");
    let world = World::with(&[SOURCE, TARGET], &links);
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    for name in ["team/app", "team/deep/lib", "solo", "solo2", "other"] {
        world.import(&repo, name);
    }
    assert_eq!(world.replicate()["delivered"], 3);
    let all = world.json(&["repo", "list", "--region", TARGET])["repositories"].clone();
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["solo", "team/app", "team/deep/lib"]);
    world.ends(2, &["replicate", "dr", "other"]).says(&["other", "dr"]);
    world.ends(2, &["replicate", "dr", "solo", "nowhere"]).says(&["nowhere", SOURCE, "dr"]);
    assert_eq!(world.json(&["replicate", "dr", "solo", "team/app"])["repositories"], 2);
}

#[test]
fn a_repository_renamed_out_of_the_globs_is_followed_all_the_same() {
    let link = "[links.dr]\nsource = \"us-east-1\"\ntarget = \"eu-west-1\"\nrepositories = [\"team/*\"]\n";
    let world = World::with(&[SOURCE, TARGET], link);
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.import(&repo, "team/app");
    world.import(&repo, "other");
    assert_eq!(world.replicate()["delivered"], 1);
    world.ok(&["repo", "rename", "team/app", "gone/app", "--region", SOURCE]);
    repo.commit("main", "more", "more\n");
    world.import(&repo, "gone/app");
    assert_eq!(world.replicate()["changes"], 2);
    world.assert_exports_as(&repo, "gone/app", TARGET);
    // What the link never carried stays away, also when it is named.
    world.ends(2, &["replicate", "dr", "other"]).says(&["other", "dr"]);
    assert_eq!(world.json(&["status", "dr"])["repositories"].as_array().unwrap().len(), 1);
}
