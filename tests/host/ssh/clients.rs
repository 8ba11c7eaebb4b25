//! Clients that are not OpenSSH: paramiko with dulwich, and libssh2 with libgit2.

use std::process::Command;

use super::Ssh;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::US;
use gitferry_test_support::python;

const PYGIT2: (&str, &str) = ("pygit2", "1.21.0");
const DULWICH_PARAMIKO: (&str, &str) = ("dulwich[paramiko]", "1.2.21");

fn run((package, version): (&str, &str), program: &str, arguments: &[&str]) -> String {
    let python = python::environment(package, version, "");
    let mut command = Command::new(python);
    command.env("HOME", "/nonexistent").env_remove("SSH_AUTH_SOCK");
    let output = command.args(["-c", program]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{package}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn libgit2_with_libssh2_clones_and_pushes() {
    let ssh = Ssh::open();
    let repo = ssh.with_app();
    let program = "import sys, pygit2\n\
        url, to, key = sys.argv[1:4]\n\
        class Callbacks(pygit2.RemoteCallbacks):\n\
        \x20   def credentials(self, url, user, allowed):\n\
        \x20       return pygit2.Keypair('git', key + '.pub', key, '')\n\
        \x20   def certificate_check(self, certificate, valid, host):\n\
        \x20       return True\n\
        r = pygit2.clone_repository(url, to, bare=True, callbacks=Callbacks())\n\
        print(r.revparse_single('HEAD').id)\n\
        r.references.create('refs/heads/pushed', r.revparse_single('HEAD').id)\n\
        r.remotes['origin'].push(['refs/heads/pushed'], callbacks=Callbacks())";
    let to = ssh.pair.path("libgit2");
    let key = ssh.key("ann");
    let url = ssh.url(US, "app");
    let main = repo.git(&["rev-parse", "main"]);
    assert_eq!(run(PYGIT2, program, &[&url, to.to_str().unwrap(), key.to_str().unwrap()]), main);
    assert!(ssh.git("ann", &repo, &["ls-remote", &url, "refs/heads/pushed"]).starts_with(&main));
    GitRepo::at(to).git(&["fsck", "--strict"]);
}

#[test]
fn dulwich_with_paramiko_clones_and_pushes() {
    let ssh = Ssh::open();
    let repo = ssh.with_app();
    let program = include_str!("paramiko.py");
    let to = ssh.pair.path("dulwich");
    let key = ssh.key("ann");
    let url = ssh.url(US, "app");
    let main = repo.git(&["rev-parse", "main"]);
    assert_eq!(run(DULWICH_PARAMIKO, program, &[&url, to.to_str().unwrap(), key.to_str().unwrap()]), main);
    assert!(ssh.git("ann", &repo, &["ls-remote", &url, "refs/heads/pushed"]).starts_with(&main));
}
