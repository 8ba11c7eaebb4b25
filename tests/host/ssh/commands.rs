//! Commands that are served, and everything that is not: shells, terminals, forwarding.

use std::net::TcpListener;
use std::process::Stdio;

use super::Ssh;
use crate::said;
use gitferry_test_support::pair::US;

#[test]
fn a_login_is_greeted_and_given_no_shell() {
    let ssh = Ssh::open();
    for options in [&["-T"][..], &[]] {
        let output = ssh.ssh(&ssh.key("ann"), options, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{options:?}");
        assert!(said(&output).contains("Hi ann! gitferry gives no shell"), "{}", said(&output));
    }
    // A client that insists on a terminal is refused one.
    let output = ssh.ssh(&ssh.key("ann"), &["-tt"], &[]).output().unwrap();
    assert!(said(&output).contains("PTY allocation request failed"), "{}", said(&output));
}

#[test]
fn commands_that_are_not_served_say_so() {
    let ssh = Ssh::with(&[("ann", "write"), ("eve", "read team/*")], ["", ""], "");
    ssh.with_app();
    let table = [
        (&["ls", "-l"][..], 1, "only commands of Git and Git LFS are served here"),
        (&["sh -c 'id'"], 1, "only commands of Git"),
        (&["git-upload-pack 'app'; id"], 128, "characters that only a shell would read"),
        (&["git-upload-pack $(id)"], 128, "characters that only a shell would read"),
        (&["git-upload-pack"], 128, "takes one argument"),
        (&["git-upload-pack", "'../app'"], 128, "not a valid repository name"),
        (&["git-upload-archive", "'app'"], 128, "git archive --remote is not served here"),
        (&["git-lfs-transfer", "app", "lock"], 128, "`download` or `upload`"),
        (&["git-lfs-authenticate", "app", "steal"], 128, "`download` or `upload`"),
        (&["git-upload-pack", "'nothing'"], 128, "there is no repository nothing"),
    ];
    for (command, status, reason) in table {
        let output = ssh.run("ann", command);
        assert_eq!(output.status.code(), Some(status), "{command:?}: {}", said(&output));
        assert!(said(&output).starts_with("gitferry: ") && said(&output).contains(reason), "{}", said(&output));
        assert!(output.stdout.is_empty());
    }
    // A repository that is missing and one that is forbidden look the same.
    let answers = ["app", "nothing"].map(|name| {
        ["git-upload-pack", "git-receive-pack", "git-lfs-authenticate", "git-lfs-transfer"].map(|command| {
            let operation = if command.contains("lfs") { " upload" } else { "" };
            let output = ssh.run("eve", &[&format!("{command} '{name}'{operation}")]);
            assert_eq!(output.status.code(), Some(128));
            said(&output).replace(name, "NAME")
        })
    });
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].iter().all(|answer| answer.contains("or this key gives no access")), "{answers:?}");
}

#[test]
fn nothing_is_forwarded() {
    let ssh = Ssh::open();
    // A port here that the host would reach.
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = target.local_addr().unwrap().port();
    let key = ssh.key("ann");
    let output = ssh.ssh(&key, &["-W", &format!("127.0.0.1:{port}")], &[]).output().unwrap();
    assert!(said(&output).contains("administratively prohibited"), "{}", said(&output));
    target.set_nonblocking(true).unwrap();
    assert!(target.accept().is_err(), "a connection was forwarded");
    let remote = ["-N", "-o", "ExitOnForwardFailure=yes", "-R", &format!("0:127.0.0.1:{port}")];
    let output = ssh.ssh(&key, &remote, &[]).output().unwrap();
    assert!(said(&output).contains("remote port forwarding failed"), "{}", said(&output));
    let output = ssh.ssh(&key, &["-s"], &["sftp"]).output().unwrap();
    assert!(said(&output).contains("subsystem request failed"), "{}", said(&output));
    let output = ssh.ssh(&key, &["-A", "-X", "-T"], &[]).output().unwrap();
    assert!(said(&output).contains("Hi ann!"), "{}", said(&output));
}

/// Only `GIT_PROTOCOL` is read, whatever else comes with it.
#[test]
fn other_variables_change_nothing() {
    let ssh = Ssh::open();
    ssh.with_app();
    let advertised = |variables: &[(&str, &str)]| {
        let mut command = ssh.ssh(&ssh.key("ann"), &["-o", "SendEnv=*"], &["git-upload-pack 'app'"]);
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(advertised(&[("GIT_PROTOCOL", "version=2")]).contains("version 2"));
    assert!(advertised(&[("GIT_PROTOCOL", "version=1")]).contains("version 1"));
    let long = format!("version=2:{}", "x".repeat(300));
    for variables in [&[][..], &[("GIT_PROTOCOL", long.as_str())], &[("GIT_DIR", "/"), ("LD_PRELOAD", "/x")]] {
        let text = advertised(variables);
        assert!(text.contains(" HEAD\0") && text.contains("refs/heads/main"), "{text}");
    }
    assert!(ssh.url(US, "app").starts_with("ssh://"));
}
