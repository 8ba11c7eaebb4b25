//! Many at once: channels of one connection, and connections.

use super::Ssh;
use crate::said;
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::pair::US;

#[test]
fn several_commands_share_one_connection() {
    let ssh = Ssh::open();
    let repo = ssh.with_app();
    let socket = ssh.pair.path("control");
    let path = format!("ControlPath={}", socket.display());
    let master = ["-o", "ControlMaster=yes", "-o", &path, "-o", "ControlPersist=yes", "-N", "-f"];
    assert!(ssh.ssh(&ssh.key("ann"), &master, &[]).status().unwrap().success());
    let shared = ["-o", "ControlMaster=no", "-o", &path];
    std::thread::scope(|scope| {
        let clones: Vec<_> = (0..8)
            .map(|number| {
                let (ssh, repo, shared) = (&ssh, &repo, &shared);
                scope.spawn(move || {
                    let to = ssh.pair.path(&format!("shared-{number}"));
                    let mut command = ssh.command("ann", &repo.path, &shared[..]);
                    let url = ssh.url(US, "app");
                    let output = command.args(["clone", "-q", "--mirror", &url, to.to_str().unwrap()]).output();
                    let output = output.unwrap();
                    assert!(output.status.success(), "{}", said(&output));
                    assert_eq!(GitRepo::at(to).refs(), repo.refs());
                })
            })
            .collect();
        clones.into_iter().for_each(|clone| clone.join().unwrap());
    });
    // Channels that have ended take no place: far more than may be open at a time.
    for number in 0..40 {
        let output = ssh.ssh(&ssh.key("ann"), &shared, &["git-upload-pack 'app'"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{number}: {}", said(&output));
    }
    let branch = "main:refs/heads/shared";
    let mut push = ssh.command("ann", &repo.path, &shared);
    let output = push.args(["push", "-q", &ssh.url(US, "app"), branch]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let connections = ssh.pair.log().matches("an SSH key is not accepted").count();
    assert_eq!(connections, 0);
    assert!(ssh.ssh(&ssh.key("ann"), &["-o", &path, "-O", "exit"], &[]).status().unwrap().success());
}

#[test]
fn twenty_clones_at_once() {
    let ssh = Ssh::open();
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    for n in 0..3 {
        repo.commit_bytes("main", &format!("large{n}"), &noise(n, 2 << 20));
    }
    let url = ssh.url(US, "app");
    ssh.git("ann", &repo, &["push", "-q", "--mirror", &url]);
    std::thread::scope(|scope| {
        let clones: Vec<_> = (0..20)
            .map(|number| {
                let (ssh, repo, url) = (&ssh, &repo, &url);
                scope.spawn(move || {
                    let to = ssh.pair.path(&format!("parallel-{number}"));
                    ssh.git("ann", repo, &["clone", "-q", "--mirror", url, to.to_str().unwrap()]);
                    assert_eq!(GitRepo::at(to).refs(), repo.refs());
                })
            })
            .collect();
        clones.into_iter().for_each(|clone| clone.join().unwrap());
    });
    let page = ssh.pair.raw(US, "GET /_metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let count = |route: &str| {
        let name = "gitferry_host_request_duration_seconds_count{region=\"us-east-1\",route=\"";
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{route}\",outcome=\"2xx\"")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    assert_eq!((count("ssh_fetch"), count("ssh_push")), (20, 1), "{page}");
    let sent = page
        .lines()
        .find(|line| line.starts_with("gitferry_host_sent_bytes_total{region=\"us-east-1\",route=\"ssh_fetch"));
    let sent: u64 = sent.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap();
    assert!(sent > (20 * 6) << 20, "{sent}");
}
