//! `docker/`: the configuration is one that the program takes, and the services are the ones that it names.

use gitferry_config::{AuthConfig, Config};
use gitferry_host::auth::tokens::TokenFile;

use crate::hcl_files::root;

#[test]
fn the_configuration_of_the_containers() {
    let config = Config::load(&root("docker/gitferry.toml")).unwrap();
    let compose = std::fs::read_to_string(root("docker/compose.yaml")).unwrap();
    assert_eq!(config.hosts.len(), 2);
    for (region, host) in &config.hosts {
        assert!(compose.contains(&format!("[\"up\", \"--host\", \"{region}\"]")), "nobody serves {region}");
        let port = host.listen.port();
        assert!(compose.contains(&format!("127.0.0.1:{port}:{port}")), "{region} cannot be reached");
        assert!(compose.contains(&format!("GITFERRY_HEALTH: 127.0.0.1:{port}")), "nobody asks after {region}");
        let AuthConfig::Tokens { tokens } = &host.auth else { panic!("{region} lets everybody in") };
        TokenFile::load(&config.path(tokens)).unwrap();
    }
    assert!(compose.contains("[\"region\", \"init\"]"), "nobody makes the regions");
    let init = std::fs::read_to_string(root("docker/localstack-init.sh")).unwrap();
    for (name, link) in &config.links {
        assert!(compose.contains(&format!("[\"worker\", \"{name}\"]")), "nobody replicates {name}");
        for queue in [&link.queue, &link.dead_letters] {
            let queue = queue.as_ref().unwrap().rsplit('/').next().unwrap();
            assert!(init.contains(&format!("--queue-name {queue}\n")), "nobody makes {queue}");
        }
    }
}

/// What the image starts and asks is there, under the names that the modules use.
#[test]
fn the_image_is_what_the_modules_expect() {
    let dockerfile = std::fs::read_to_string(root("docker/Dockerfile")).unwrap();
    for file in ["link/task.tf", "link/function.tf", "host/task.tf"] {
        let text = std::fs::read_to_string(root("infra/modules").join(file)).unwrap();
        let paths = text.split('"').filter(|word| word.starts_with("/usr/local/bin/") || word.starts_with("/var/lib"));
        for path in paths {
            let (folder, name) = path.rsplit_once('/').unwrap();
            let copied = dockerfile.contains(&format!("/out/bin/ {folder}/"))
                && dockerfile.contains(&format!("/out/bin/{name}"));
            assert!(copied || dockerfile.contains(&format!("VOLUME [\"{path}\"]")), "{file}: {path}");
        }
    }
    assert!(dockerfile.contains("USER 65532:65532"));
}
