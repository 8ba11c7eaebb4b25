//! The command line: what is asked wrongly, exit codes, help, JSON.

use serde_json::Value;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

const COMMANDS: [&[&str]; 19] = [
    &[],
    &["init"],
    &["repo"],
    &["repo", "create"],
    &["repo", "list"],
    &["repo", "show"],
    &["repo", "rename"],
    &["repo", "delete"],
    &["import"],
    &["replicate"],
    &["status"],
    &["log"],
    &["verify"],
    &["export"],
    &["demo"],
    &["config", "check"],
    &["completions"],
    &["man"],
    &["maintain"],
];

fn synced() -> (World, GitRepo) {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    world.import(&repo, "app");
    world.replicate();
    (world, repo)
}

#[test]
fn every_command_has_help_with_an_example() {
    let world = World::new();
    for command in COMMANDS {
        let help = world.ok(&[command, &["--help"]].concat());
        assert!(help.contains("Example:\n  gitferry"), "{command:?}: {help}");
    }
    let help = world.ok(&["--help"]);
    for code in 0..=3 {
        assert!(help.contains(&format!("\n  {code}  ")), "{help}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let (world, _) = synced();
    let cases: &[(&[&str], &[&str])] = &[
        (&["repo", "list", "--region", "mars"], &["region mars", SOURCE, TARGET]),
        (&["import", "src.git", "x", "--region", "mars"], &["region mars"]),
        (&["export", "app", "--region", "mars", "--to", "x"], &["region mars"]),
        (&["log", "app", "--region", "mars"], &["region mars"]),
        (&["verify", "app", "--region", "mars"], &["region mars"]),
        (&["replicate", "nolink"], &["link nolink", LINK]),
        (&["status", "nolink"], &["link nolink", LINK]),
        (&["verify", "nothing"], &["link or repository nothing"]),
        (&["verify", "nothing", "--region", SOURCE], &["repository nothing", SOURCE]),
        (&["replicate", LINK, "nothing"], &["repository nothing", LINK]),
        (&["repo", "show", "nothing", "--region", SOURCE], &["repository nothing in us-east-1", "repo list"]),
        (&["repo", "rename", "nothing", "x", "--region", SOURCE], &["repository nothing"]),
        (&["repo", "delete", "nothing", "--region", SOURCE], &["repository nothing"]),
        (&["log", "nothing", "--region", TARGET], &["repository nothing in eu-west-1"]),
        (&["export", "nothing", "--region", TARGET, "--to", "x"], &["repository nothing in eu-west-1"]),
        (&["import", "nowhere", "x", "--region", SOURCE], &["nowhere"]),
    ];
    for (args, words) in cases {
        world.ends(2, args).says(words);
    }
    assert!(!world.path("x").exists());
}

#[test]
fn bad_names_are_refused_everywhere() {
    let (world, _) = synced();
    for bad in [
        "",
        "/",
        "a//b",
        "../up",
        "a/../b",
        "a/",
        "/a",
        "a b",
        "a.git",
        ".hidden/..",
        "a\tb",
        "-x/..",
        &"x".repeat(2_000),
    ] {
        for args in [
            &["repo", "create", "--region", SOURCE, "--", bad][..],
            &["repo", "rename", "--region", SOURCE, "--", "app", bad],
            &["import", "--region", SOURCE, "--", "src.git", bad],
        ] {
            let run = world.run(args);
            assert_eq!(run.status.code(), Some(2), "{args:?}: {}{}", run.stdout, run.stderr);
            assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
        }
    }
    let all = world.json(&["repo", "list", "--region", SOURCE, "--deleted"])["repositories"].clone();
    assert_eq!(all.as_array().unwrap().len(), 1);
}

#[test]
fn wrong_arguments_end_with_2() {
    let world = World::new();
    for args in [
        &["sail"][..],
        &[],
        &["repo"],
        &["import", "x"],
        &["replicate"],
        &["replicate", LINK, "--jobs", "many"],
        &["repo", "create", "x", "--region", SOURCE, "--object-format", "md5"],
        &["export", "x", "--region", SOURCE],
    ] {
        assert_eq!(world.run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn configurations_that_make_no_sense() {
    let world = World::new();
    let good = std::fs::read_to_string(world.path("gitferry.toml")).unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("[regions", &["gitferry.toml"]),
        ("[regions.a]\nobjects = \"file:a\"\n", &["table"]),
        ("[regions.a]\nobjects = \"s4:a\"\ntable = \"sqlite:t\"\n", &["regions.a.objects", "s4:a", "file:PATH"]),
        ("[regions.a]\nobjects = \"file:a\"\ntable = \"file:t\"\n", &["regions.a.table", "sqlite:PATH"]),
        ("[regions.a]\nobjects = \"file://host/a\"\ntable = \"sqlite:t\"\n", &["names a host"]),
        ("[regions.a]\nobjects = \"file:\"\ntable = \"sqlite:t\"\n", &["has no path"]),
        ("[regions.\"a/b\"]\nobjects = \"file:a\"\ntable = \"sqlite:t\"\n", &["a/b", "name for a region"]),
        (
            "[regions.a]\nobjects = \"file:o\"\ntable = \"sqlite:t\"\n[regions.b]\nobjects = \"file:o\"\ntable = \"sqlite:u\"\n",
            &["a and b", "same store"],
        ),
        (
            "[regions.a]\nobjects = \"file:o\"\ntable = \"sqlite:t\"\n[regions.b]\nobjects = \"file:./x/../o\"\ntable = \"sqlite:u\"\n",
            &["a and b", "same store"],
        ),
        ("[links.x]\nsource = \"a\"\ntarget = \"b\"\n", &["links.x", "no region a"]),
        (
            "[regions.a]\nobjects = \"file:o\"\ntable = \"sqlite:t\"\n[links.x]\nsource = \"a\"\ntarget = \"a\"\n",
            &["same region"],
        ),
        ("surprise = 1\n", &["surprise"]),
    ];
    for (text, words) in cases {
        std::fs::write(world.path("gitferry.toml"), text).unwrap();
        let run = world.run(&["status"]);
        assert_eq!(run.status.code(), Some(2), "{text}");
        run.says(&["gitferry.toml"]);
        run.says(words);
    }
    for (extra, words) in
        [("mode = \"sideways\"", "sideways"), ("repositories = [\"[\"]", "links.dr"), ("sorce = 1", "sorce")]
    {
        let text = good.replace("repositories = [\"*\"]", extra);
        std::fs::write(world.path("gitferry.toml"), text).unwrap();
        world.ends(2, &["status"]).says(&[words]);
    }
    std::fs::remove_file(world.path("gitferry.toml")).unwrap();
    world.ends(2, &["status"]).says(&[
        "no configuration file gitferry.toml",
        "gitferry init",
        "--config",
        "GITFERRY_CONFIG",
    ]);
}

#[test]
fn the_configuration_may_lie_anywhere() {
    let (world, _) = synced();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = world.path("gitferry.toml");
    // Relative paths in it are relative to the file.
    let mut command = world.command(&["status", LINK, "--json"]);
    command.current_dir(elsewhere.path()).env("GITFERRY_CONFIG", &file);
    let run = gitferry_test_support::world::Run::of(command);
    assert_eq!(run.json()["repositories"][0]["standing"], "equal");
    let mut command = world.command(&["--config", file.to_str().unwrap(), "status", LINK, "--json"]);
    command.current_dir(elsewhere.path());
    assert_eq!(gitferry_test_support::world::Run::of(command).json(), run.json());
    world.ends(2, &["init"]).says(&["already"]);
    world.ok(&["init", "--dir", "fresh/deep"]);
    world.ok(&["--config", "fresh/deep/gitferry.toml", "replicate", LINK]);
}

/// Asserts that a line of JSON is of this version, and has exactly these fields beside.
fn line(value: &Value, expected: &str) {
    assert_eq!(value["schema"], 1, "{value}");
    fields(value, &format!("schema {expected}"));
}

/// Asserts that an object has exactly these fields.
fn fields(value: &Value, expected: &str) {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected: Vec<&str> = expected.split_whitespace().collect();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    let documented = include_str!("../../../docs/json.md");
    for name in names {
        assert!(
            documented.contains(&format!("`{name}`")) || documented.contains(&format!("\"{name}\"")),
            "docs/json.md lacks {name}"
        );
    }
}

#[test]
fn json_has_the_fields_that_scripts_rely_on() {
    let (world, repo) = synced();
    repo.commit("main", "more", "more\n");
    let imported = world.import(&repo, "app");
    line(
        &imported,
        "repository id change created updated deleted refs packs objects bytes lfs_objects lfs_bytes lfs_missing",
    );
    let status = world.json(&["status", LINK]);
    line(&status, "link source target repositories");
    let one = &status["repositories"][0];
    fields(
        one,
        "repository id standing state source target pending_changes pending_bytes lag_seconds delivered waits_for_name last_error",
    );
    fields(&one["source"], "epoch seq hash");
    assert_eq!((&one["standing"], &one["pending_changes"]), (&"behind".into(), &1.into()));
    assert_eq!(one["pending_bytes"], imported["bytes"]);
    assert!(one["lag_seconds"].as_f64().unwrap() >= 0.0);
    // Behind is a difference for verify, not for status.
    let verify = world.ends(1, &["verify", LINK, "--json"]).json();
    line(&verify, "ok deep proven not_proven differences failures repositories");
    assert!(verify["differences"][0].as_str().unwrap().contains("copies the rest"));
    fields(
        &verify["repositories"][0],
        "repository id region frontier changes refs packs lfs_objects objects bytes deep findings other_keys",
    );
    let summary = world.replicate();
    let all = "link repositories unchanged delivered failed changes edits packs lfs_objects bytes_copied max_lag_seconds elapsed_seconds refused reports";
    line(&summary, all);
    fields(&summary["reports"][0], "repository id delivered retries");
    fields(&summary["reports"][0]["delivered"], "changes edits packs lfs_objects bytes lag_seconds");
    let log = world.ok(&["log", "app", "--region", TARGET, "--json"]);
    let seqs: Vec<u64> = log
        .lines()
        .map(|text| {
            let change: Value = serde_json::from_str(text).unwrap();
            line(
                &change,
                "seq hash prev epoch region time actor origin name state head edits_total edits packs refs_digest",
            );
            fields(&change["edits"][0], "name old new");
            fields(&change["packs"][0], "id bytes objects");
            assert_eq!(change["actor"], "tester");
            change["seq"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(seqs, [2, 1]);
    line(&world.json(&["export", "app", "--region", TARGET, "--to", "out"]), "refs packs lfs_objects bytes");
    let head = "id name state deleted role region format head refs refs_digest frontier time";
    line(&world.show("app", TARGET), &format!("{head} kms_key packs bytes"));
    for args in [["repo", "create", "new"], ["repo", "delete", "new"]] {
        line(&world.json(&[&args[..], &["--region", SOURCE]].concat()), head);
    }
}

#[test]
fn an_export_never_writes_over_anything() {
    let (world, _) = synced();
    std::fs::create_dir(world.path("full")).unwrap();
    std::fs::write(world.path("full/file"), "mine").unwrap();
    for to in ["full", "full/file"] {
        world.ends(2, &["export", "app", "--region", TARGET, "--to", to]).says(&["full"]);
    }
    assert_eq!(std::fs::read_to_string(world.path("full/file")).unwrap(), "mine");
    assert_eq!(std::fs::read_dir(world.path("full")).unwrap().count(), 1);
}

#[test]
fn what_a_person_reads() {
    let (world, repo) = synced();
    repo.commit("main", "more", "more\n");
    world.import(&repo, "app");
    let status = world.ok(&["status"]);
    assert!(status.contains("dr: us-east-1 → eu-west-1, 1 repository") && status.contains("behind"), "{status}");
    let told = world.ok(&["replicate", LINK]);
    assert!(
        told.contains("app: 1 change, 1 ref edit, 1 pack") && told.contains("1 delivered, 0 unchanged, 0 failed"),
        "{told}"
    );
    let log = world.ok(&["log", "app", "--region", TARGET, "--limit", "1"]);
    assert!(log.starts_with("change 2 ") && log.contains("update refs/heads/main"), "{log}");
    let verify = world.ok(&["verify", LINK, "--deep"]);
    assert_eq!(verify.lines().filter(|line| line.starts_with("ok  app in ")).count(), 2, "{verify}");
    assert!(!verify.contains("NOT checked"), "{verify}");
    // Without --deep no byte was read, and nothing reads as if it had been.
    let verify = world.ok(&["verify", LINK]);
    assert_eq!(verify.lines().filter(|line| line.starts_with("present  app in ")).count(), 2, "{verify}");
    assert!(verify.contains("NOT checked: bytes of packs and LFS objects"), "{verify}");
}

#[test]
fn the_command_line_is_described_to_shells_and_to_man() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.ok(&["completions", shell]);
        for word in ["replicate", "--region", "completions"] {
            // Elvish and fish write a flag without its dashes.
            assert!(script.contains(word.trim_start_matches('-')), "{shell}: {word}");
        }
    }
    let script = world.path("completions.bash");
    std::fs::write(&script, world.ok(&["completions", "bash"])).unwrap();
    let checked = std::process::Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    let page = world.ok(&["man"]);
    assert!(page.contains(".TH gitferry 1") && page.contains("Exit codes"), "{page}");
    world.ok(&["man", "--dir", "man1"]);
    for name in ["gitferry.1", "gitferry-repo-rename.1", "gitferry-config-check.1"] {
        assert!(world.path("man1").join(name).exists(), "{name}");
    }
    assert!(world.ok(&["--version"]).starts_with("gitferry 0.1.0 ("), "{}", world.ok(&["--version"]));
}

#[test]
fn a_configuration_is_checked_with_the_files_that_it_names() {
    let world = World::new();
    std::fs::remove_dir_all(world.path("us-east-1")).unwrap();
    world.ok(&["config", "check"]);
    assert!(!world.path("us-east-1").exists(), "a check opens no store");
    std::fs::write(world.path("tokens"), "ann:0123456789abcdef\n").unwrap();
    let good = std::fs::read_to_string(world.path("gitferry.toml")).unwrap();
    let with =
        |more: &str| std::fs::write(world.path("gitferry.toml"), good.replacen("auth = \"none\"", more, 1)).unwrap();
    with("auth = { tokens = \"tokens\" }");
    world.ok(&["config", "check"]);
    for (more, file) in [
        ("auth = { tokens = \"missing-tokens\" }", "missing-tokens"),
        ("auth = \"none\"\ntls = { cert = \"cert.pem\", key = \"key.pem\" }", "cert.pem"),
        ("auth = \"none\"\nca = \"ca.pem\"", "ca.pem"),
        ("auth = \"none\"\nhidden = [\"^\"]", "^"),
    ] {
        with(more);
        let run = world.run(&["config", "check", "--json"]);
        assert_eq!(run.status.code(), Some(2), "{more}: {run:?}");
        let found: Value = serde_json::from_str(&run.stdout).unwrap();
        let parts = found["parts"].as_array().unwrap();
        let bad: Vec<&Value> = parts.iter().filter(|part| !part["error"].is_null()).collect();
        assert_eq!((found["ok"].as_bool(), bad.len()), (Some(false), 1), "{more}: {found}");
        assert_eq!(bad[0]["part"], "hosts.us-east-1");
        assert!(bad[0]["error"].as_str().unwrap().contains(file), "{more}: {found}");
    }
}

#[test]
fn the_configuration_that_up_has_made_is_named() {
    let world = World::with(&[], "");
    std::fs::remove_file(world.path("gitferry.toml")).unwrap();
    std::fs::create_dir(world.path("gitferry-data")).unwrap();
    std::fs::write(world.path("gitferry-data/gitferry.toml"), "").unwrap();
    let run = world.run(&["status", LINK]);
    assert_eq!(run.status.code(), Some(2));
    assert!(run.stderr.contains("--config gitferry-data/gitferry.toml"), "{run:?}");
}

#[test]
fn up_takes_the_configuration_of_the_folder() {
    let world = World::with(&[SOURCE], "");
    let run = world.run(&["up"]);
    assert_eq!(run.status.code(), Some(2), "{run:?}");
    assert!(run.stderr.contains("gitferry.toml has no [hosts.REGION]"), "{run:?}");
    assert!(!world.path("gitferry-data").exists());
}

#[test]
fn a_port_that_is_taken_is_named_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let host = format!("[hosts.{SOURCE}]\nlisten = \"{address}\"\nauth = \"none\"\n");
    let world = World::with(&[SOURCE], &host);
    world.ends(3, &["up"]).says(&[&address.to_string(), SOURCE, "another process listens on it"]);
}
