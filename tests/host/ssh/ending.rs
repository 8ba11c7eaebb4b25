//! How a host with SSH ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use super::Ssh;
use crate::raw::push_body;
use gitferry_test_support::pair::US;

#[test]
fn a_running_push_ends_before_the_host_does() {
    let mut ssh = Ssh::open();
    let repo = ssh.with_app();
    let body = push_body(&repo, "late");
    let mut command = ssh.ssh(&ssh.key("ann"), &[], &["git-receive-pack 'app'"]);
    let mut push = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = push.stdin.take().unwrap();
    stdin.write_all(&body[..body.len() / 2]).unwrap();
    stdin.flush().unwrap();
    // The advertisement has come: the command runs.
    let mut stdout = push.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    let mut idle = TcpStream::connect(ssh.address(US)).unwrap();
    idle.read_exact(&mut [0; 16]).unwrap();
    ssh.pair.signal("TERM");
    let mut rest = Vec::new();
    // Closed in order or not, but at once.
    idle.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let ended = idle.read_to_end(&mut rest);
    assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "an idle connection stays");
    ssh.pair.wait(|| TcpStream::connect(ssh.address(US)).is_err());
    stdin.write_all(&body[body.len() / 2..]).unwrap();
    drop(stdin);
    let mut answer = Vec::new();
    stdout.read_to_end(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("ok refs/heads/late"), "{}", ssh.pair.log());
    assert_eq!(push.wait().unwrap().code(), Some(0));
    assert_eq!(ssh.pair.exit_code(), Some(0), "{}", ssh.pair.log());
    ssh.pair.restart();
    let listed = ssh.git("ann", &repo, &["ls-remote", &ssh.url(US, "app"), "refs/heads/late"]);
    assert!(listed.starts_with(&repo.git(&["rev-parse", "main"])), "{listed}");
}

#[test]
fn what_does_not_end_in_time_is_cut_off_and_said() {
    let mut ssh = Ssh::with(&[("ann", "write")], ["limits = { grace = \"1s\" }", ""], "");
    ssh.with_app();
    let mut command = ssh.ssh(&ssh.key("ann"), &[], &["git-receive-pack 'app'"]);
    let mut push = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    push.stdout.as_mut().unwrap().read_exact(&mut [0; 100]).unwrap();
    ssh.pair.signal("TERM");
    assert_eq!(ssh.pair.exit_code(), Some(0), "{}", ssh.pair.log());
    assert_eq!(push.wait().unwrap().code(), Some(255));
    assert!(ssh.pair.log().contains("SSH commands that did not end within the grace period"), "{}", ssh.pair.log());
}
