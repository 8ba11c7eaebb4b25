//! A pack that a region has lost or holds damaged: clients hear of a failure of the server, never that there is no such
//! repository; the log names repository, pack, region and the command that mends it; and after that command the
//! same host serves the repository again.

use std::fs;
use std::path::PathBuf;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};

fn packs(pair: &Pair) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![pair.path("data").join(REGIONS[US]).join("objects/repositories")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "pack") => found.push(path),
                false => {}
            }
        }
    }
    found
}

fn status_of(pair: &Pair, name: &str) -> String {
    let request = format!(
        "GET /{name}/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    );
    pair.raw(US, &request).lines().next().unwrap().to_owned()
}

#[test]
fn a_lost_or_damaged_pack_is_the_servers_failure_and_named() {
    for gone in [true, false] {
        let mut pair = Pair::open();
        let repo = GitRepo::init(pair.path("src.git"), &[]);
        for content in ["one", "two"] {
            repo.commit("main", "file", content);
            repo.git(&["push", &pair.url(US, "team/app"), "main"]);
        }
        pair.wait_until_same(&repo, "team/app");
        pair.kill();
        let pack = packs(&pair).pop().unwrap();
        let mut bytes = fs::read(&pack).unwrap();
        fs::remove_file(&pack).unwrap();
        if !gone {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&pack, bytes).unwrap();
        }
        pair.restart();
        assert!(status_of(&pair, "team/app").contains(" 500 "), "{}", status_of(&pair, "team/app"));
        assert!(status_of(&pair, "team/other").contains(" 404 "));
        repo.commit("main", "file", "three");
        let pushed = repo.try_git(&["push", &pair.url(US, "team/app"), "main"]);
        let said = crate::said(&pushed);
        assert!(!pushed.status.success() && said.contains("500") && !said.contains("not found"), "{said}");
        let command = format!("gitferry repair team/app --region {} --from", REGIONS[US]);
        let name = pack.file_name().unwrap().to_str().unwrap();
        for word in ["team/app", name, REGIONS[US], &command] {
            assert!(pair.log().contains(word), "{word} is not in\n{}", pair.log());
        }
        pair.ok(&["repair", "team/app", "--region", REGIONS[US], "--from", REGIONS[EU]]);
        repo.git(&["push", &pair.url(US, "team/app"), "main"]);
        pair.assert_clones_as(&repo, &pair.url(US, "team/app"));
    }
}
