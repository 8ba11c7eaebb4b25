//! Containers as ECS runs them: the entry point of the image, with command, environment and secrets of the container's
//! definition.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use gitferry_test_support::aws::Emulator;
use gitferry_test_support::paths;
use gitferry_test_support::world::World;
use serde_json::Value;

use crate::running::{free_address, wait};
use crate::secret_files;

/// The ports and the folder of the container.
const PORT: u16 = 8411;
const SSH_PORT: u16 = 8422;
const FOLDER: &str = "/var/lib/gitferry";

/// The folder and the ports of this machine that a container has.
pub struct Place {
    folder: PathBuf,
    address: SocketAddr,
    ssh: SocketAddr,
}

impl Place {
    pub fn new(world: &World, name: &str) -> Place {
        let folder = world.path(name);
        std::fs::create_dir(&folder).unwrap();
        Place { folder, address: free_address(), ssh: free_address() }
    }

    /// A text of a definition, with what the container has on this machine.
    pub fn here(&self, text: &str) -> String {
        let text = text.replace(&format!("0.0.0.0:{PORT}"), &self.address.to_string());
        let text = text.replace(&format!("127.0.0.1:{PORT}"), &self.address.to_string());
        let text = text.replace(&format!("0.0.0.0:{SSH_PORT}"), &self.ssh.to_string());
        text.replace(FOLDER, self.folder.to_str().unwrap())
    }

    /// The arguments of a definition's command.
    pub fn arguments(&self, definition: &Value) -> Vec<String> {
        list(definition, "command").iter().map(|word| self.here(word.as_str().unwrap())).collect()
    }

    /// The entry point of the image, with these values of its secrets by the names of their files.
    fn command(&self, definition: &Value, secrets: &[(&str, &str)]) -> Command {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut command = Command::new(secret_files::program());
        command.arg(self.folder.join("secrets")).arg(paths::gitferry()).args(self.arguments(definition));
        command.current_dir(&self.folder).env_clear().envs(Emulator::get().environment());
        command.env("TMPDIR", &self.folder).env("XDG_CACHE_HOME", &self.folder);
        for variable in list(definition, "environment") {
            command.env(text(&variable["name"]), self.here(variable["value"].as_str().unwrap()));
        }
        let wanted: Vec<String> = list(definition, "secrets").iter().map(|secret| text(&secret["name"])).collect();
        let given: Vec<String> = secrets.iter().map(|(file, _)| secret_files::variable(file)).collect();
        assert_eq!(wanted, given, "the secrets of the container");
        command.envs(given.iter().zip(secrets).map(|(variable, (_, value))| (variable, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs a container that ends by itself.
    pub fn run(&self, definition: &Value, secrets: &[(&str, &str)]) -> Output {
        self.command(definition, secrets).output().unwrap()
    }
}

fn list<'a>(definition: &'a Value, name: &str) -> &'a [Value] {
    definition[name].as_array().unwrap_or_else(|| panic!("no {name}"))
}

/// A host's container, which ends with the test.
pub struct Container<'a> {
    child: Child,
    world: &'a World,
    place: Place,
    grace: Duration,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'a> Container<'a> {
    /// Starts a container with these values of its secrets, by the names of their files, and waits until it is ready.
    pub fn start(world: &'a World, definition: &Value, secrets: &[(&str, &str)]) -> Container<'a> {
        let place = Place::new(world, "container");
        let log = std::fs::File::create(world.path("container.log")).unwrap();
        let child = place.command(definition, secrets).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let grace = Duration::from_secs(definition["stopTimeout"].as_u64().unwrap());
        let container = Container { child, world, place, grace };
        let address = container.address().to_string();
        let ready = || world.run(&["health", "--ready", &address]).status.success();
        wait(&format!("the container is ready: {}", container.log()), ready);
        for (file, value) in secrets {
            let file = container.place.folder.join("secrets").join(file);
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{value}\n"));
        }
        container
    }

    /// Address of the host.
    pub fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// Address of the host for SSH.
    pub fn ssh(&self) -> SocketAddr {
        self.place.ssh
    }

    /// The log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.world.path("container.log")).unwrap()
    }

    /// The environment of the process, as other processes of its user may read it.
    pub fn environment(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/environ", self.child.id())).unwrap().replace('\0', "\n")
    }

    /// Stops the container as ECS does. Returns the exit code; `None` if the process did not end within `stopTimeout`.
    pub fn stop(&mut self) -> Option<i32> {
        let start = Instant::now();
        let stopped = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(stopped.success());
        while start.elapsed() < self.grace {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}
