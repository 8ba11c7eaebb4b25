//! A host alone and a worker alone, as in `docker/compose.yaml`: each its own process.

use std::net::TcpStream;

use crate::running::{free_address, frontier, push, serve, wait, worker};
use gitferry_test_support::world::World;

#[test]
fn a_host_leaves_replication_to_the_worker() {
    let world =
        World::with(&["us-east-1", "eu-west-1"], "[links.dr]\nsource = \"us-east-1\"\ntarget = \"eu-west-1\"\n");
    let (us, eu) = (free_address(), free_address());
    let config = std::fs::read_to_string(world.path("gitferry.toml")).unwrap()
        + &format!("[hosts.us-east-1]\nlisten = \"{us}\"\nauth = \"none\"\ncreate_on_push = true\n")
        + &format!("[hosts.eu-west-1]\nlisten = \"{eu}\"\nauth = \"none\"\n");
    std::fs::remove_file(world.path("gitferry.toml")).unwrap();
    let serving = serve(&world, &config, "us-east-1", us);
    assert!(TcpStream::connect(eu).is_err(), "the other region is served, too");
    assert!(world.ok(&["health", &us.to_string()]).contains("ok"));
    push(&world, &us.to_string(), "team/app");
    assert_eq!(frontier(&world, &config, "team/app", "eu-west-1"), None, "the host has replicated");
    drop(serving);
    // Nobody tells it: what the host committed waits in its outbox.
    let working = worker(&world, &config, &[]);
    let state = frontier(&world, &config, "team/app", "us-east-1");
    assert!(state.is_some());
    wait("the other region has it", || frontier(&world, &config, "team/app", "eu-west-1") == state);
    assert_eq!(working.counter("delivered"), 1);
    let outcome = world.command(&["up", "--host", "ap-south-1"]).env("GITFERRY_CONFIG_TOML", &config).output().unwrap();
    assert_eq!(outcome.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&outcome.stderr).contains("ap-south-1"));
}
