//! gitferry's own host as a remote.

use gitferry_base::Kind;
use gitferry_git::client::{ClientError, UploadPack};
use gitferry_git::protocol::Version;

use crate::remote::place::{Place, assert_fetches, bulky, listed, push_main, refs_of};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{Pair, US};

#[test]
fn with_tokens_over_http_and_tls() {
    let place = Place::new();
    std::fs::write(place.path("token"), "0123456789abcdef").unwrap();
    for tls in [false, true] {
        let tokens = "ann:0123456789abcdef\n";
        let pair = if tls { Pair::with_tls(tokens, ["", ""]) } else { Pair::with_tokens(tokens) };
        let mut lines = format!("url = \"{}\"\n", pair.url(US, "{name}"));
        if tls {
            lines += &format!("ca = \"{}\"\n", pair.path("cert.pem").display());
        }
        let auth = "auth = { kind = \"basic\", user = \"ann\", token_file = \"token\" }\n";
        let remote = place.remote(&format!("{lines}{auth}"));
        // A push to a name that there is no repository of makes one.
        for (name, bytes) in [("small", 1000), ("large", 3 << 20)] {
            let source = bulky(place.path(&format!("{name}-{tls}")), bytes);
            let there = remote.repository(name).unwrap();
            assert!(push_main(&there, &source).unwrap().is_ok());
            assert_eq!(listed(&there).unwrap(), refs_of(&source));
            assert_eq!(UploadPack::open(&there).unwrap().version(), Version::V2);
            assert_fetches(&place, &there, &GitRepo::at(&source.path));
        }
        let nobody = place.remote(&lines).repository("small").unwrap();
        let error = listed(&nobody).unwrap_err();
        assert!(matches!(error, ClientError::Unauthorized { .. }) && error.kind() == Kind::Refused, "{error}");
    }
}
