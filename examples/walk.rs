//! scratch
use gitferry::git::connectivity::*;
use gitferry::git::pack::*;
use std::path::PathBuf;
use std::time::Instant;
fn main() {
    let git = PathBuf::from(std::env::args().nth(1).unwrap());
    let mut set = PackSet::new(gix::hash::Kind::Sha1);
    for e in std::fs::read_dir(git.join("objects/pack")).unwrap() {
        let p = e.unwrap().path();
        if p.extension().is_some_and(|e| e == "pack") {
            set.add(&p, &p.with_extension("idx")).unwrap();
        }
    }
    let refs = std::fs::read_to_string(git.join("packed-refs")).unwrap();
    let tips: Vec<_> = refs
        .lines()
        .filter(|l| !l.starts_with(['#', '^']))
        .map(|l| {
            let (a, b) = l.split_once(' ').unwrap();
            (b.to_string(), gix::ObjectId::from_hex(a.as_bytes()).unwrap())
        })
        .collect();
    let t = Instant::now();
    let m = missing_from(tips, &set, &|_| false).unwrap();
    println!("walk {:?}: {} missing", t.elapsed(), m.len());
    for m in m.iter().take(5) {
        println!("  {m}");
    }
    let mut ids: Vec<gix::ObjectId> =
        (0..set.slots()).filter_map(|s| set.at_slot(s)).map(|l| set.id(l).unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    let step: usize = std::env::args().nth(2).map_or(1, |s| s.parse().unwrap());
    let ids: Vec<_> = ids.into_iter().step_by(step).collect();
    let t = Instant::now();
    let out = std::path::Path::new("/tmp/packs-fx/gathered.pack");
    let _ = std::fs::remove_file(out);
    let b = gather(&ids, &set, &mut |_| Ok(None), out).unwrap();
    println!("gather {:?}: {b:?}", t.elapsed());
}
