//! Two hosts that know nothing of each other, and links between them in a configuration of its own.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::remotes_lfs::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::world::Run;

/// What every host has.
const HOST: &str = "create_on_push = true\nauth = \"none\"";

pub struct Hosts {
    pub pair: Pair,
}

impl Hosts {
    /// With more configuration of the hosts.
    pub fn start(more: &str) -> Hosts {
        let config = |addresses: [std::net::SocketAddr; 2]| {
            let mut config = String::new();
            for (name, address) in REGIONS.into_iter().zip(addresses) {
                config += &format!(
                    "[regions.{name}]\nobjects = \"file:{name}/objects\"\ntable = \"sqlite:{name}/table.db\"\n"
                );
                config += &format!("[hosts.{name}]\nlisten = \"{address}\"\n{HOST}\n");
            }
            config + more
        };
        Hosts { pair: Pair::on(config, Vec::new()) }
    }

    /// The links: `cc` from one host to the other, `pull` from one into a region, `push` out of that region to the
    /// other; with more lines for each.
    pub fn link(&self, lines: &str) {
        let remote =
            |name: &str, host: usize| format!("[remotes.{name}]\nurl = \"{}\"\n", self.pair.url(host, "{name}"));
        let link = |name: &str, from: &str, to: &str| {
            format!("[links.{name}]\nsource = \"{from}\"\ntarget = \"{to}\"\nrepositories = [\"app\"]\n{lines}\n")
        };
        let region = "[regions.here]\nobjects = \"file:here/objects\"\ntable = \"sqlite:here/table.db\"\n";
        let text = [
            region.to_owned(),
            remote("us", US),
            remote("eu", EU),
            link("cc", "us", "eu"),
            link("pull", "us", "here"),
            link("push", "here", "eu"),
        ];
        std::fs::write(self.pair.path("links.toml"), text.concat()).unwrap();
        let made = self.run(&["region", "init"]);
        assert!(made.status.success(), "{}", made.stderr);
    }

    /// The command on the links.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(gitferry_test_support::paths::gitferry());
        command.args(args).arg("--config").arg(self.pair.path("links.toml")).env_remove("GITFERRY_LOG");
        command
    }

    /// Runs it, whatever comes of it.
    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args))
    }

    /// One pass, which must succeed; what it did for the repository.
    pub fn pass(&self, link: &str) -> Value {
        let run = self.run(&["replicate", link, "--json"]);
        assert!(run.status.success(), "{}{}\n{}", run.stdout, run.stderr, self.pair.log());
        run.json()["reports"][0]["carried"].clone()
    }

    /// One pass, which must end with an exit code and say each of these.
    pub fn fails(&self, link: &str, code: i32, words: &[&str]) {
        let run = self.run(&["replicate", link]);
        assert_eq!(run.status.code(), Some(code), "{}{}", run.stdout, run.stderr);
        run.says(words);
    }

    /// One pass that dies at a crash point.
    pub fn dies(&self, link: &str, point: &str) {
        let mut command = self.command(&["replicate", link]);
        command.env("FAILPOINTS", format!("{point}=return"));
        let run = Run::of(command);
        assert_eq!(run.status.code(), None, "{link} has not reached {point}: {}{}", run.stdout, run.stderr);
    }

    /// The folder of a host's region.
    pub fn region(&self, host: usize) -> PathBuf {
        self.pair.path("data").join(REGIONS[host])
    }

    /// How many objects the hosts have taken in so far.
    pub fn taken(&self) -> usize {
        self.pair.log().matches("stored an LFS object").count()
    }

    /// The refs that a host shows.
    pub fn refs(&self, host: usize) -> String {
        let repo = GitRepo::init(self.fresh("ask"), &[]);
        let output = repo.try_git(&["ls-remote", &self.pair.url(host, "app"), "refs/*"]);
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn fresh(&self, name: &str) -> PathBuf {
        (0..).map(|n| self.pair.path(&format!("{name}-{n}"))).find(|path| !path.exists()).unwrap()
    }
}
