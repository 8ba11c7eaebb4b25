//! SSH public keys against those of OpenSSH's `ssh-keygen`.

use crate::ssh_key::{PublicKey, Refused};

/// Lines `NAME|FINGERPRINT|KEY`: keys and fingerprints by OpenSSH 9.2. The sk- keys are put together from others.
const KEYS: &str = include_str!("fixtures/ssh_keys.txt");

fn keys() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    KEYS.lines().map(|line| {
        let [name, fingerprint, key] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (name, fingerprint, key)
    })
}

#[test]
fn strong_keys_have_the_fingerprints_of_openssh() {
    let mut accepted = 0;
    for (name, fingerprint, key) in keys().take(8) {
        let parsed = PublicKey::parse(key).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_eq!(parsed.fingerprint(), fingerprint, "{name}");
        let bare = parsed.without_comment();
        assert_eq!(bare.split(' ').count(), 2, "{bare}");
        assert_eq!(PublicKey::parse(&bare).unwrap().fingerprint(), fingerprint);
        PublicKey::parse(&format!("  {key}\r\n")).unwrap();
        accepted += 1;
    }
    assert_eq!(accepted, 8);
}

#[test]
fn weak_and_other_keys_are_refused_with_the_reason() {
    let of = |wanted: &str| keys().find(|(name, ..)| *name == wanted).unwrap().2;
    assert_eq!(PublicKey::parse(of("rsa1024")).unwrap_err(), Refused::RsaSize);
    assert_eq!(PublicKey::parse(of("dsa")).unwrap_err(), Refused::Algorithm);
    assert_eq!(PublicKey::parse(of("ed25519-cert")).unwrap_err(), Refused::Certificate);
    let good = of("ed25519");
    let two = format!("{good}\n{good}");
    let options = format!("command=\"x\" {good}");
    let ecdsa_as_ed25519 = of("ecdsa256").replace("ecdsa-sha2-nistp256 ", "ssh-ed25519 ");
    let long = format!("{good} {}", "x".repeat(20_000));
    let wrong = ["", "ssh-ed25519", "ssh-ed25519 !!!", "-----BEGIN PUBLIC KEY-----", &good[..60], &two, &options];
    for text in wrong.into_iter().chain([ecdsa_as_ed25519.as_str(), long.as_str()]) {
        assert_eq!(PublicKey::parse(text).unwrap_err(), Refused::NotAKey, "{text}");
    }
}
