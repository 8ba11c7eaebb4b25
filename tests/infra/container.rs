//! A host that runs as its container does on ECS: the entry point of the image, with command, environment and secrets of
//! the container's definition.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gitferry_test_support::aws::Emulator;
use gitferry_test_support::paths;
use gitferry_test_support::world::World;
use serde_json::Value;

use crate::running::wait;
use crate::secret_files;

/// The port and the folder of the container.
const PORT: u16 = 8411;
const FOLDER: &str = "/var/lib/gitferry";

/// A container that ends with the test.
pub struct Container<'a> {
    child: Child,
    world: &'a World,
    address: SocketAddr,
    grace: Duration,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'a> Container<'a> {
    /// Starts a container with these values of its secrets, by the names of their files, and waits until it is ready. Its
    /// port and its folder become ones of this machine.
    pub fn start(world: &'a World, definition: &Value, secrets: &[(&str, &str)], address: SocketAddr) -> Container<'a> {
        let folder = world.path("container");
        std::fs::create_dir(&folder).unwrap();
        let here = |text: &str| {
            let text = text.replace(&format!("0.0.0.0:{PORT}"), &address.to_string());
            let text = text.replace(&format!("127.0.0.1:{PORT}"), &address.to_string());
            text.replace(FOLDER, folder.to_str().unwrap())
        };
        let list = |name: &str| definition[name].as_array().unwrap_or_else(|| panic!("no {name}")).iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut command = Command::new(secret_files::program());
        command.arg(folder.join("secrets")).arg(paths::gitferry()).args(list("command").map(text));
        command.current_dir(&folder).env_clear().envs(Emulator::get().environment());
        command.env("TMPDIR", &folder).env("XDG_CACHE_HOME", &folder);
        for variable in list("environment") {
            command.env(text(&variable["name"]), here(variable["value"].as_str().unwrap()));
        }
        let wanted: Vec<String> = list("secrets").map(|secret| text(&secret["name"])).collect();
        let given: Vec<String> = secrets.iter().map(|(file, _)| secret_files::variable(file)).collect();
        assert_eq!(wanted, given, "the secrets of the container");
        command.envs(given.iter().zip(secrets).map(|(variable, (_, value))| (variable, value)));
        let log = std::fs::File::create(world.path("container.log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let grace = Duration::from_secs(definition["stopTimeout"].as_u64().unwrap());
        let container = Container { child, world, address, grace };
        let ready = || world.run(&["health", "--ready", &address.to_string()]).status.success();
        wait(&format!("the container is ready: {}", container.log()), ready);
        for (file, value) in secrets {
            let file = folder.join("secrets").join(file);
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{value}\n"));
        }
        container
    }

    /// Address of the host.
    pub fn address(&self) -> SocketAddr {
        self.address
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
