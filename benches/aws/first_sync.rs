//! The first sync of a repository from bucket to bucket: copied by S3 itself, not through the worker.

use std::io;
use std::path::Path;

use super::requests::{counts, to_stores};
use super::section::Section;
use super::site::{LINK, Site};
use super::support::measure::{Sample, run};
use super::support::place::{KeptMirror, Place, describe, settle};
use super::support::report::mebi;
use super::worker::cpu_of_tree;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::proxy::{Proxy, Request};

/// Limit in bytes of the requests for packs and indexes and of their answers: what S3 says of copies.
const TALK: u64 = 64 * 1024;

/// Measures it, beside Git between two folders on this machine.
pub async fn measure(place: &Place, repo: &Path) -> io::Result<Section> {
    let emulator = Emulator::get();
    let proxy = Proxy::start(emulator.endpoint()).await;
    proxy.tell_checksums();
    let site = Site::new(place.path("first-sync")).await?;
    site.import(repo, &["big".to_owned()]).await?;
    site.configure(&proxy.endpoint, false)?;
    settle();
    let before = cpu_of_tree(emulator.process());
    let sample = tokio::task::spawn_blocking({
        let mut command = site.command(&["replicate", LINK]);
        move || run(&mut command)
    });
    let sample = sample.await.map_err(io::Error::other)??;
    let emulated = cpu_of_tree(emulator.process()).saturating_sub(before);
    // A process that writes proves first that the stores keep their promises.
    let (probes, requests): (Vec<Request>, Vec<Request>) = proxy.requests().into_iter().partition(is_probe);
    let through = |of_packs: bool| -> u64 {
        let to_s3 = requests.iter().filter(|request| request.service == "s3" && is_of_pack(request) == of_packs);
        to_s3.map(|request| request.sent + request.received).sum()
    };
    let bytes = packs(&site).await?;
    let by_kind = counts(&requests);

    let kept = KeptMirror::new(place.path("kept"), repo)?;
    let (clone, push) = kept.first(repo)?;
    let git = clone.then(push);
    let mut section =
        Section::new(format!("first sync, {}", describe(repo)?), &["gitferry replicate", "git clone + push --mirror"]);
    let time = |sample: &Sample| format!("{:.2} s", sample.wall.as_secs_f64());
    section.row("wall", vec![time(&sample), time(&git)]);
    section.row("bytes of packs and indexes", vec![mebi(bytes), String::new()]);
    section.row("of them, through the worker", vec![format!("{} bytes", through(true)), "all of them, twice".into()]);
    section.row("and of manifests, changes and lists of refs", vec![format!("{} bytes", through(false)), "–".into()]);
    section.row("requests to the stores", vec![to_stores(&by_kind).to_string(), "–".into()]);
    section.row("and to prove the target's stores", vec![probes.len().to_string(), "–".into()]);
    for ((service, operation), count) in &by_kind {
        section.row(format!("  {service} {operation}"), vec![count.to_string(), String::new()]);
    }
    let memory = |kib: u64| mebi(kib * 1024);
    section.row("peak anonymous memory", vec![memory(sample.anon_kib), memory(git.anon_kib)]);
    section.row("processor time of the emulator", vec![format!("{:.2} s", emulated.as_secs_f64()), "–".into()]);
    section.note("git: clone and push between folders on this machine; gitferry's time includes the emulator's, and that of reading the copies once to tell their checksums, as S3 does by itself");
    section.at_most(
        "no pack byte through the worker (what S3 says of the copies)",
        through(true) as f64,
        TALK as f64,
        " bytes",
    );
    Ok(section)
}

fn is_of_pack(request: &Request) -> bool {
    request.path.contains("/objects/pack/")
}

fn is_probe(request: &Request) -> bool {
    request.path.contains("/probes/") || request.body.contains("\"probe/")
}

async fn packs(site: &Site) -> io::Result<u64> {
    let item = site.source.repositories().get("big").await.map_err(io::Error::other)?;
    let (manifest, _) = site.source.reader().manifest(&item).await.map_err(io::Error::other)?;
    Ok(manifest.packs.iter().map(|pack| pack.bytes + pack.index_bytes).sum())
}
