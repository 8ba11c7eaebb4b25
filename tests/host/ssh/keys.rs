//! Who may log in: every kind of key, and nothing else.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Ssh, public};
use crate::said;
use gitferry_test_support::pair::{REGIONS, US};
use gitferry_test_support::sshd::keygen;

/// Makes a key of a kind and a size in bits.
pub fn sized(file: &Path, kind: &str, bits: &str) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-b", bits, "-N", "", "-f"]).arg(file);
    assert!(command.status().unwrap().success(), "{kind} {bits}");
}

#[test]
fn every_kind_of_key_that_ssh_keygen_makes_logs_in() {
    let kinds = [
        ("ed25519", "256"),
        ("ecdsa", "256"),
        ("ecdsa", "384"),
        ("ecdsa", "521"),
        ("rsa", "2048"),
        ("rsa", "3072"),
        ("rsa", "4096"),
    ];
    let keys = tempfile::tempdir().unwrap();
    let names = kinds.map(|(kind, bits)| format!("{kind}-{bits}"));
    let mut lines = String::from("# all kinds\n\n");
    for (name, (kind, bits)) in names.iter().zip(kinds) {
        sized(&keys.path().join(name), kind, bits);
        lines += &format!("{name} read {}", public(&keys.path().join(name)));
    }
    let ssh = Ssh::on(keys, &lines, ["", ""], "");
    for name in &names {
        let greeting = said(&ssh.run(name, &[]));
        assert!(greeting.contains(&format!("Hi {name}!")), "{name}: {greeting}");
    }
    // RSA with both hashes of SHA-2, and not with SHA-1.
    let rsa = |algorithm: &str| {
        let option = format!("PubkeyAcceptedAlgorithms={algorithm}");
        said(&ssh.ssh(&ssh.key("rsa-3072"), &["-o", &option], &[]).output().unwrap())
    };
    assert!(rsa("rsa-sha2-256").contains("Hi rsa-3072!"), "{}", rsa("rsa-sha2-256"));
    assert!(rsa("rsa-sha2-512").contains("Hi rsa-3072!"));
    assert!(!rsa("ssh-rsa").contains("Hi"), "{}", rsa("ssh-rsa"));
}

#[test]
fn either_host_key_proves_the_host_and_its_fingerprint_is_printed() {
    let ssh = Ssh::open();
    let log = ssh.pair.log();
    let folder = ssh.pair.path("data/ssh").join(REGIONS[US]);
    for (file, algorithm) in [("ssh_host_ed25519_key", "ssh-ed25519"), ("ssh_host_ecdsa_key", "ecdsa-sha2-nistp256")] {
        let printed = Command::new("ssh-keygen").args(["-l", "-f"]).arg(folder.join(file)).output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let print = printed.split(' ').find(|word| word.starts_with("SHA256:")).unwrap();
        assert!(log.contains(print), "{print}: {log}");
        let option = format!("HostKeyAlgorithms={algorithm}");
        let greeting = said(&ssh.ssh(&ssh.key("ann"), &["-o", &option], &[]).output().unwrap());
        assert!(greeting.contains("Hi ann!"), "{greeting}");
    }
    assert!(log.contains(&ssh.url(US, "").trim_end_matches('/').to_owned()), "{log}");
}

#[test]
fn every_offered_algorithm_works() {
    let ssh = Ssh::open();
    let kinds = [
        ("KexAlgorithms", &["curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256"][..]),
        ("KexAlgorithms", &["ecdh-sha2-nistp384", "ecdh-sha2-nistp521"]),
        ("Ciphers", &["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes256-ctr", "aes128-ctr"]),
        ("MACs", &["hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512", "hmac-sha2-256"]),
    ];
    for (kind, names) in kinds {
        for name in names {
            let option = format!("{kind}={name}");
            let cipher = if kind == "MACs" { "Ciphers=aes256-ctr" } else { "Compression=no" };
            let output = ssh.ssh(&ssh.key("ann"), &["-o", &option, "-o", cipher], &[]).output().unwrap();
            assert!(said(&output).contains("Hi ann!"), "{name}: {}", said(&output));
        }
    }
    for weak in ["KexAlgorithms=diffie-hellman-group14-sha1", "Ciphers=aes256-cbc", "MACs=hmac-sha1"] {
        let ctr = if weak.starts_with("MACs") { "Ciphers=aes256-ctr" } else { "Compression=no" };
        let output = ssh.ssh(&ssh.key("ann"), &["-o", weak, "-o", ctr], &[]).output().unwrap();
        assert!(said(&output).contains("no matching"), "{weak}: {}", said(&output));
    }
}

#[test]
fn unknown_keys_and_users_are_refused_alike() {
    let ssh = Ssh::with(&[("ann", "write"), ("bob", "write")], ["", ""], "");
    let stranger = ssh.keys.path().join("stranger");
    keygen(&stranger, "ed25519", "");
    let login = |key: &Path, user: &str| {
        let start = Instant::now();
        let mut command = Command::new("ssh");
        command.args(ssh.options(key)).args([
            "-T",
            "-p",
            &ssh.address(US).port().to_string(),
            &format!("{user}@127.0.0.1"),
        ]);
        let said = said(&command.env_remove("SSH_AUTH_SOCK").output().unwrap());
        (said, start.elapsed())
    };
    assert!(login(&ssh.key("ann"), "git").0.contains("Hi ann!"));
    assert!(login(&ssh.key("ann"), "ann").0.contains("Hi ann!"));
    let mut times: Vec<Duration> = Vec::new();
    for (key, user) in [(&stranger, "git"), (&stranger, "ann"), (&stranger, "nobody"), (&ssh.key("ann"), "bob")] {
        let (said, time) = login(key, user);
        assert_eq!(said.trim(), format!("{user}@127.0.0.1: Permission denied (publickey)."));
        times.push(time);
    }
    times.sort();
    assert!(times[3] - times[0] < Duration::from_millis(500), "{times:?}");
    // No other method is offered.
    let mut command = ssh.ssh(&stranger, &["-v", "-o", "PreferredAuthentications=password"], &[]);
    assert!(said(&command.output().unwrap()).contains("Authentications that can continue: publickey"));
    assert!(!ssh.pair.log().contains("panicked"));
}

#[test]
fn keys_are_exchanged_while_serving() {
    let ssh = Ssh::with(&[("ann", "write"), ("bob", "read")], ["", ""], "");
    let works = |user: &str| said(&ssh.run(user, &[])).contains(&format!("Hi {user}!"));
    assert!(works("ann") && works("bob"));
    // A connection that is open already is of no use to a key that is removed.
    let path = format!("ControlPath={}", ssh.pair.path("control").display());
    let master = ["-o", "ControlMaster=yes", "-o", &path, "-N", "-f"];
    assert!(ssh.ssh(&ssh.key("ann"), &master, &[]).status().unwrap().success());
    let shared = || said(&ssh.ssh(&ssh.key("ann"), &["-o", "ControlMaster=no", "-o", &path], &[]).output().unwrap());
    assert!(shared().contains("Hi ann!"));
    let file = ssh.pair.path("data/keys");
    std::fs::write(&file, format!("bob read {}", public(&ssh.key("bob")))).unwrap();
    ssh.pair.wait(|| !works("ann"));
    assert!(!shared().contains("Hi ann!"));
    assert!(works("bob"));
    std::fs::write(&file, "bob read nonsense").unwrap();
    ssh.pair.wait(|| ssh.pair.log().contains("the old SSH keys stay in use"));
    assert!(works("bob") && !works("ann"));
}

#[test]
fn host_keys_stay_and_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut ssh = Ssh::open();
    let file = ssh.pair.path("data/ssh").join(REGIONS[US]).join("ssh_host_ed25519_key");
    let key = std::fs::read_to_string(&file).unwrap();
    ssh.pair.restart();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key);
    assert!(said(&ssh.run("ann", &[])).contains("Hi ann!"));
    assert!(!ssh.pair.log().contains(key.lines().nth(1).unwrap()), "the key is in the log");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = Command::new(gitferry_test_support::paths::gitferry());
    let output = command.args(["up", "--dir"]).arg(ssh.pair.path("data")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("chmod 600"), "{}", said(&output));
}
