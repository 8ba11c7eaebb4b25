//! Links with a Git server at one end: one pass at a time over each repository.

use gitferry_base::Kind;
use gitferry_engine::ledger::keys;
use gitferry_service::delivery::Link;
use gitferry_service::delivery::RepositoryKey;
use gitferry_service::delivery::intake::take_batch;
use gitferry_service::delivery::request::DeliveryRequest;
use gitferry_store::table::lease::{Lease, Waiter};
use gitferry_store::table::{Condition, Write};
use serde_json::json;

use crate::events::place::{block_on, eventually};
use crate::events::remotes::{NAME, ONLY_BY_EVENTS, Servers, deliver};

fn servers() -> Servers {
    let servers = Servers::linked("us", "eu", &format!("{ONLY_BY_EVENTS}table = \"sqlite:cc.db\"\n"));
    servers.world.ok(&["replicate", "cc", NAME]);
    servers
}

async fn lease(link: &dyn Link) -> Lease {
    let key = keys::remote_lease("cc", NAME);
    Waiter::new(link.table().unwrap(), link.clock(), key).try_take().await.unwrap().unwrap()
}

#[test]
fn a_pass_leaves_a_repository_to_the_one_that_is_under_way() {
    let servers = servers();
    block_on(async {
        let link = servers.open().await;
        let held = lease(&link).await;
        // It may have looked before this happened.
        let outcome = take_batch(&link, None, &[&servers.event().to_string()]).await;
        assert_eq!((outcome.pending.len(), outcome.duplicates), (1, 0));
        let asked = DeliveryRequest {
            repository: RepositoryKey::Name(NAME.into()),
            jobs: servers.marks().await,
            compare: false,
        };
        servers.requests();
        std::fs::write(servers.world.path("event.json"), servers.event().to_string()).unwrap();
        let mut command = servers.world.command(&["replicate", "cc", "--event", "event.json"]);
        let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let error = deliver(&link, &asked).await.unwrap_err();
        assert!(error.is_under_way() && error.kind() == Kind::Conflict, "{error}");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("another pass over this repository is under way"), "{said}");
        assert_eq!((servers.requests(), servers.marks().await.len()), (0, 1));
        // Who dies does not let it go, but does not hold it either.
        drop(held);
        assert_eq!(deliver(&link, &asked).await.unwrap(), None);
        assert_eq!(servers.marks().await, []);
        assert!(link.table().unwrap().get(&keys::remote_lease("cc", NAME)).await.unwrap().is_none());
    });
}

#[test]
fn who_loses_a_lease_knows_it_and_leaves_it_alone() {
    let servers = servers();
    block_on(async {
        let link = servers.open().await;
        let (held, key) = (lease(&link).await, keys::remote_lease("cc", NAME));
        let table = link.table().unwrap();
        let theirs = Write::put(key.clone(), Condition::Any, json!({ "holder": "somebody else" }));
        table.transact(vec![theirs]).await.unwrap();
        eventually("it is known", async || held.lost().is_cancelled()).await;
        held.release().await;
        assert!(table.get(&key).await.unwrap().is_some());
    });
}
