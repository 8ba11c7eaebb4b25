//! Starts in surroundings that are bad in one way each: every one ends with the exit code that is documented and words
//! that name the cause, or works all the same. None panics.

use std::ffi::OsStr;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gitferry_test_support::world::{SOURCE, World};

/// How a start is to end.
enum Ends {
    /// By itself, with this code and these words on standard error.
    With(i32, &'static [&'static str]),
    /// Not at all: it serves until it is told to stop, and then ends well.
    Runs,
    /// By itself, well.
    Well,
}

use Ends::{Runs, Well, With};

/// Longest life of a process that has to end by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks starts at the same time, as those of processes that run take seconds.
fn check_all(starts: Vec<(String, Command, Ends)>) {
    std::thread::scope(|scope| {
        for (what, mut command, ends) in starts {
            scope.spawn(move || check(&what, &mut command, &ends));
        }
    });
}

/// Checks one start.
fn check(what: &str, command: &mut Command, ends: &Ends) {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut said = Vec::new();
        errors.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    });
    let start = Instant::now();
    // One that runs is told to stop; one that does not end is killed, and fails the test.
    let mut stopped = false;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if matches!(ends, Runs) && !stopped && start.elapsed() > Duration::from_secs(2) {
            stopped = true;
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let said = reading.join().unwrap();
    assert!(!said.contains("panicked"), "{what}: {said}");
    assert!(!said.contains("RUST_BACKTRACE"), "{what}: {said}");
    match ends {
        Runs => assert!(stopped && status.code() == Some(0), "{what}: it ended with {status}: {said}"),
        Well => assert_eq!(status.code(), Some(0), "{what}: {said}"),
        With(code, words) => {
            assert_eq!(status.code(), Some(*code), "{what}: {said}");
            for word in *words {
                assert!(said.contains(word), "{what}: {word:?} is not in: {said}");
            }
        }
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn bytes(text: &[u8]) -> &OsStr {
    OsStr::from_bytes(text)
}

/// Settings of `gitferry.toml` that make no sense, and what is said of them.
#[test]
fn bad_settings_are_named_with_what_would_do() {
    let region = "[regions.us-east-1]\nobjects = \"file:us-east-1/objects\"\ntable = \"sqlite:us-east-1/table.db\"\n";
    let remote =
        |limits: &str| format!("{region}[remotes.hub]\nurl = \"http://h/{{name}}\"\nlimits = {{ {limits} }}\n");
    let host = |limits: &str| {
        format!(
            "{region}[hosts.us-east-1]\nlisten = \"127.0.0.1:0\"\nauth = \"none\"\n[hosts.us-east-1.limits]\n{limits}\n"
        )
    };
    let with = |line: &str| format!("{line}\n{region}");
    let in_region = |line: &str| format!("{region}{line}\n");
    let cases: Vec<(String, &[&str])> = vec![
        (with("push_memory = \"12 parsecs\""), &["push_memory", "12 parsecs", "512MiB"]),
        (with("push_memory = -5"), &["push_memory", "512MiB"]),
        (with("push_memory = 99999999999999999999"), &["push_memory"]),
        (in_region("cache = { max_bytes = \"much\" }"), &["max_bytes", "much", "512MiB"]),
        (in_region("recovery_window = \"7 parsecs\""), &["recovery_window", "7 parsecs", "7d"]),
        (in_region("recovery_window = \"999999999999999999d\""), &["recovery_window", "7d"]),
        (host("requests = 0"), &["requests", "between 1 and 1000000"]),
        (host("connections = 0"), &["connections", "between 1 and 1000000"]),
        (host("connections = 9223372036854775807"), &["connections", "between 0 and 1000000"]),
        (host("requests = -1"), &["requests", "between 0 and 1000000"]),
        (host("requests = 1.5"), &["requests"]),
        (host("waiting = 9223372036854775807"), &["waiting", "between 0 and 1000000"]),
        (host("longest_wait = \"soon\""), &["longest_wait", "soon", "90s"]),
        (host("grace = \"-1s\""), &["grace", "not negative"]),
        (host("forward_wait = \"999999999999h\""), &["forward_wait"]),
        (host("request_silence = \"90000h\""), &["request_silence", "at most 87600h"]),
        (host("grace = 5"), &["grace"]),
        (remote("silence = \"5 fortnights\""), &["silence", "5 fortnights"]),
        (remote("connect_time = \"99999999h\""), &["connect_time", "at most"]),
        (remote("bytes_per_push = \"-1 MiB\""), &["bytes_per_push", "512MiB"]),
        (remote("refs_per_push = -1"), &["refs_per_push", "between"]),
        (remote("refs_per_push = 0"), &["refs_per_push", "between 1 and"]),
        (region.replace("table.db", "table\u{0}.db"), &["gitferry.toml"]),
        (
            format!("{region}[hosts.us-east-1]\nlisten = \"127.0.0.1:99999\"\nauth = \"none\"\n"),
            &["listen", "127.0.0.1:8411"],
        ),
        (format!("{region}[hosts.us-east-1]\nlisten = \"localhost\"\nauth = \"none\"\n"), &["listen"]),
        ("[regions".into(), &["gitferry.toml"]),
        ("regions = 7".into(), &["regions"]),
    ];
    let world = World::with(&[SOURCE], "");
    for (text, words) in cases {
        std::fs::write(world.path("gitferry.toml"), &text).unwrap();
        for args in [&["repo", "list", "--region", SOURCE][..], &["up"], &["worker"]] {
            let what = format!("{args:?} with {text:?}");
            let run = world.ends(2, args);
            assert!(!run.stderr.contains("panicked"), "{what}: {}", run.stderr);
            for word in words {
                assert!(run.stderr.contains(word), "{what}: {word:?} is not in: {}", run.stderr);
            }
        }
    }
}

#[test]
fn bad_files_and_folders_are_named() {
    let world = World::with(&[SOURCE], "");
    let config = std::fs::read_to_string(world.path("gitferry.toml")).unwrap();
    let host = |more: &str| {
        let address = free_address();
        std::fs::write(world.path("host.toml"), format!("{config}[hosts.us-east-1]\nlisten = \"{address}\"\n{more}\n"))
            .unwrap();
    };
    let list = ["repo", "list", "--region", SOURCE];
    let with = |config: &str, args: &[&str]| {
        let mut command = world.command(args);
        command.args(["--config", config]);
        command
    };
    std::fs::write(world.path("latin.toml"), [config.as_bytes(), b"# caf\xe9\n"].concat()).unwrap();
    check("not UTF-8", &mut with("latin.toml", &list), &With(2, &["latin.toml", "line 4 is not UTF-8"]));
    check(
        "a folder",
        &mut with("us-east-1", &list),
        &With(3, &["us-east-1", "cannot read", "name another with --config"]),
    );
    std::fs::write(world.path("huge.toml"), vec![b'#'; (4 << 20) + 1]).unwrap();
    check("huge", &mut with("huge.toml", &list), &With(2, &["huge.toml", "more than"]));
    check("none", &mut with("none.toml", &list), &With(2, &["none.toml", "gitferry init"]));
    // Secrets and certificates.
    std::fs::write(world.path("latin"), b"ann:\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9\n")
        .unwrap();
    std::fs::write(world.path("nonsense"), "nonsense").unwrap();
    for (file, words) in [
        ("missing", &["missing"][..]),
        ("us-east-1", &["us-east-1"]),
        ("latin", &["latin"]),
        ("nonsense", &["nonsense"]),
    ] {
        host(&format!("auth = {{ tokens = \"{file}\" }}"));
        check(&format!("tokens in {file}"), &mut with("host.toml", &["up"]), &With(2, words));
        host(&format!("auth = \"none\"\ntls = {{ cert = \"{file}\", key = \"{file}\" }}"));
        let mut command = with("host.toml", &["up"]);
        let code = if ["missing", "us-east-1"].contains(&file) { 3 } else { 2 };
        check(&format!("a certificate in {file}"), &mut command, &With(code, words));
    }
    // Places that nothing can be written to, for any user.
    for (args, words) in [
        (&["init", "--dir", "/proc/gitferry"][..], &["/proc"][..]),
        (&["init", "--dir", "gitferry.toml/below"], &["gitferry.toml"]),
        (&["up", "--dir", "/proc/gitferry"], &["/proc"]),
        (&["demo", "--dir", "/proc/gitferry"], &["/proc"]),
    ] {
        let run = world.run(args);
        let code = run.status.code();
        assert!(code == Some(2) || code == Some(3), "{args:?}: {code:?} {}", run.stderr);
        assert!(!run.stderr.contains("panicked"), "{args:?}: {}", run.stderr);
        if args[0] != "demo" {
            words.iter().for_each(|word| assert!(run.stderr.contains(word), "{args:?}: {}", run.stderr));
        }
    }
    for (objects, table) in
        [("/proc/o", "us-east-1/table.db"), ("us-east-1/objects", "/proc/t"), ("gitferry.toml", "t")]
    {
        let text = format!("[regions.us-east-1]\nobjects = \"file:{objects}\"\ntable = \"sqlite:{table}\"\n");
        std::fs::write(world.path("odd.toml"), text).unwrap();
        for args in [&list[..], &["region", "init"], &["up"], &["maintain"]] {
            let run = world.run(&[args, &["--config", "odd.toml"]].concat());
            let code = run.status.code();
            assert!(code == Some(2) || code == Some(3), "{objects} {table} {args:?}: {code:?} {}", run.stderr);
            assert!(!run.stderr.contains("panicked"), "{objects} {table} {args:?}: {}", run.stderr);
            assert!(!run.stderr.contains("there is no object"), "{objects} {table} {args:?}: {}", run.stderr);
        }
    }
}

#[test]
fn bad_sockets_are_named() {
    let world = World::with(&[SOURCE], "");
    let config = std::fs::read_to_string(world.path("gitferry.toml")).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (listen, words) in [
        (taken.as_str(), &["cannot listen", "another process listens on it"][..]),
        ("203.0.113.7:8411", &["cannot listen", "203.0.113.7", "no such address"]),
    ] {
        let auth = if listen == taken { "\"none\"" } else { "{ tokens = \"tokens\" }" };
        std::fs::write(world.path("tokens"), "ann:0123456789abcdef0123\n").unwrap();
        let host = format!("{config}[hosts.us-east-1]\nlisten = \"{listen}\"\nauth = {auth}\n");
        std::fs::write(world.path("host.toml"), host).unwrap();
        check(listen, world.command(&["up"]).args(["--config", "host.toml"]), &With(3, words));
    }
    world.configure(&[SOURCE, "b"], "[links.ab]\nsource = \"us-east-1\"\ntarget = \"b\"\n");
    check(
        "health",
        &mut world.command(&["worker", "--health", &taken]),
        &With(3, &["cannot listen", "another process"]),
    );
    check("health", &mut world.command(&["worker", "--health", "nonsense"]), &With(2, &["--health", "nonsense"]));
}

#[test]
fn bad_arguments_and_environments_are_named_or_do_no_harm() {
    let world = World::new();
    let not_utf8 = bytes(b"caf\xe9");
    let list = ["repo", "list", "--region", SOURCE];
    for args in [&["repo", "show"][..], &["repo", "list", "--region"], &["replicate"], &["worker"], &["import", "."]] {
        check(&format!("{args:?}"), world.command(args).arg(not_utf8), &With(2, &["UTF-8"]));
    }
    check("config", world.command(&list).arg("--config").arg(not_utf8), &With(2, &["there is no configuration file"]));
    let import = ["--region", SOURCE];
    check("import", world.command(&["import"]).arg(not_utf8).arg("name").args(import), &With(2, &["caf"]));
    for (name, value, args, ends) in [
        ("GITFERRY_CONFIG_TOML", &b"# caf\xe9"[..], &list[..], With(2, &["GITFERRY_CONFIG_TOML", "UTF-8"])),
        ("GITFERRY_CONFIG", b"caf\xe9.toml", &list, With(2, &["there is no configuration file"])),
        ("GITFERRY_LOG", b"gitferry=[", &list, Well),
        ("GITFERRY_LOG", b"caf\xe9", &list, Well),
        ("GITFERRY_LOG_FORMAT", b"odd", &list, With(2, &["odd"])),
        ("GITFERRY_LOG_FORMAT", b"caf\xe9", &list, With(2, &["--log-format"])),
        ("GITFERRY_HEALTH", b"nonsense", &["worker"], With(2, &["nonsense"])),
        ("GITFERRY_HEALTH", b"127.0.0.1:0", &["worker"], Runs),
        ("GITFERRY_JOBS", b"many", &["lambda"], With(2, &["many"])),
        ("GITFERRY_JOBS", b"99999999999999999999", &["lambda"], With(2, &["99999999999999999999"])),
        ("GITFERRY_LINKS", b"caf\xe9", &["lambda"], With(2, &[])),
        ("AWS_LAMBDA_RUNTIME_API", b"no host: at all", &["lambda"], With(3, &["Runtime API"])),
        ("AWS_LAMBDA_RUNTIME_API", b"", &["lambda"], With(2, &["AWS_LAMBDA_RUNTIME_API"])),
        ("USER", b"caf\xe9", &["repo", "create", "by-odd-user", "--region", SOURCE], Well),
        ("HOME", b"caf\xe9", &list, Well),
        ("TMPDIR", b"/nonexistent", &list, Well),
        ("TZ", b"Nowhere/At:All", &list, Well),
        ("HTTPS_PROXY", b":::", &list, Well),
        ("SSL_CERT_FILE", b"/nonexistent", &list, Well),
        ("LC_ALL", b"caf\xe9", &list, Well),
    ] {
        let what = format!("{name}={} {args:?}", String::from_utf8_lossy(value));
        check(&what, world.command(args).env(name, bytes(value)), &ends);
    }
    let mut running = Vec::new();
    let mut worker = |flag: &str, value: &str, ends: Ends| {
        let mut command = world.command(&["worker", "--health", "127.0.0.1:0"]);
        command.arg(format!("{flag}={value}"));
        let what = format!("{flag} {value}");
        match ends {
            Runs => running.push((what, command, ends)),
            With(..) | Well => check(&what, &mut command, &ends),
        }
    };
    worker("--jobs", "0", Runs);
    worker("--jobs", "18446744073709551615", Runs);
    worker("--jobs", "99999999999999999999", With(2, &["--jobs"]));
    worker("--jobs", "-1", With(2, &["--jobs"]));
    worker("--sweep-rate", "0", Runs);
    worker("--sweep-rate", "4294967295", Runs);
    for flag in ["--grace", "--sweep-every", "--outbox-every", "--announced-within", "--metrics-every"] {
        worker(flag, "-1s", With(2, &["not negative"]));
        worker(flag, "soon", With(2, &["soon", "90s"]));
        worker(flag, "99999999h", With(2, &["at most 87600h"]));
        worker(flag, "87600h", Runs);
    }
    for flag in ["--sweep-every", "--outbox-every", "--metrics-every"] {
        worker(flag, "0s", With(2, &[]));
    }
    check_all(running);
    // Output that goes nowhere.
    let closed = |redirection: &str, args: &str| {
        let mut command = Command::new("sh");
        let program = gitferry_test_support::paths::gitferry().display();
        command.current_dir(world.path("")).args(["-c", &format!("exec {program} {args} {redirection}")]);
        command.env_remove("GITFERRY_LOG");
        command
    };
    for redirection in [">&-", ">/dev/full", "<&-", ">&- <&-"] {
        for args in ["repo list --region us-east-1", "repo list --region us-east-1 --json", "--help", "--version"] {
            let what = format!("{args} {redirection}");
            let run = gitferry_test_support::world::Run::of(closed(redirection, args));
            assert!(!run.stderr.contains("panicked"), "{what}: {}", run.stderr);
            assert!(run.status.code().is_some_and(|code| code < 4), "{what}: {:?}", run.status);
        }
    }
    // Few files, and a folder that is gone.
    for (limit, ends) in [("3", false), ("8", false), ("16", false), ("64", true)] {
        let run = gitferry_test_support::world::Run::of({
            let mut command = Command::new("sh");
            let program = gitferry_test_support::paths::gitferry().display();
            // Without files that the test has inherited itself.
            let close = "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-";
            let line = format!("{close}; ulimit -n {limit}; exec {program} repo list --region us-east-1");
            command.current_dir(world.path("")).args(["-c", &line]).env_remove("GITFERRY_LOG");
            command
        });
        assert!(!run.stderr.contains("panicked"), "{limit} files: {}", run.stderr);
        assert!(run.status.success() || !ends, "{limit} files: {}", run.stderr);
    }
    let mut gone = Command::new("sh");
    let line = format!(
        "mkdir gone; cd gone; rmdir ../gone; exec {} status",
        gitferry_test_support::paths::gitferry().display()
    );
    check(
        "no folder",
        gone.current_dir(world.path("")).args(["-c", &line]).env_remove("GITFERRY_LOG"),
        &With(2, &["gitferry.toml"]),
    );
}
