//! Many pushes at once, and clients that go away.

use std::collections::BTreeSet;
use std::io::Write;

use gitferry_git::protocol::PacketWriter;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::receiving::Host;

#[test]
fn twenty_pushers_and_no_update_is_lost() {
    const PUSHERS: usize = 20;
    const PUSHES: usize = 3;
    let host = Host::new();
    let base = GitRepo::with_history(host.dir.path().join("base"), &[]);
    host.push(&base, &["main"]);
    let won: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PUSHERS)
            .map(|n| {
                let host = &host;
                scope.spawn(move || {
                    let client = GitRepo::with_history(host.dir.path().join(format!("client{n}")), &[]);
                    let mut won = Vec::new();
                    for push in 0..PUSHES {
                        // Each has a branch of its own, and all want one that they share.
                        let own = client.commit(&format!("own{n}"), &format!("f{n}"), &format!("{push}\n"));
                        host.push(&client, &[&format!("own{n}")]);
                        won.push(own);
                        client.git(&["update-ref", "refs/heads/shared", &format!("own{n}")]);
                        let shared = host.try_push(&client, &["--force", "shared"]);
                        won.extend(shared.status.success().then(|| client.git(&["rev-parse", "shared"])));
                    }
                    won
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let export = host.verified();
    for n in 0..PUSHERS {
        assert!(!export.git(&["rev-parse", "--verify", &format!("own{n}")]).is_empty());
    }
    // Every accepted push is in the ledger.
    let item = host.head();
    let rows = host.runtime.block_on(host.region.reader().changes_above(&item, 0)).unwrap();
    let (log, id) = (host.region.log(), item.id);
    let mut named = BTreeSet::new();
    let _entered = host.runtime.enter();
    for row in &rows {
        log.read(id, row, |_, edit| {
            named.extend(edit.new.map(|value| value.to_string()));
        })
        .unwrap();
    }
    for id in &won {
        assert!(named.contains(id), "{id} was accepted but is not in the ledger");
    }
    assert!(won.len() >= PUSHERS * PUSHES);
}

#[test]
fn a_client_that_disappears_leaves_nothing() {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    host.push(&client, &["side"]);
    let before = (host.head().head.frontier, host.pack_keys());
    let (main, null) = (client.git(&["rev-parse", "main"]), "0".repeat(40));
    let pack = client.feed(&["pack-objects", "--revs", "--stdout", "-q"], b"main\n");
    for sent in [0, 3, 12, 13, 100, pack.len() / 2, pack.len() - 20, pack.len() - 1] {
        let mut stream = host.connect();
        let mut writer = PacketWriter::new(&stream);
        writer.data(format!("{null} {main} refs/heads/main\0report-status side-band-64k").as_bytes()).unwrap();
        writer.flush_packet().unwrap();
        stream.write_all(&pack[..sent]).unwrap();
        drop(stream);
    }
    // Connections are closed in any order: a push behind them all says that the server lives.
    host.push(&client, &["side:refs/heads/after"]);
    for _ in 0..200 {
        if host.spooled().is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(host.spooled(), Vec::<std::path::PathBuf>::new());
    assert_eq!(host.pack_keys(), before.1);
    assert_eq!(host.head().head.frontier.seq, before.0.seq + 1);
    host.verified();
}
