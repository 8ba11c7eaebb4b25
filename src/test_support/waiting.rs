//! Waiting for what is to come true.

use std::future::Future;
use std::time::{Duration, Instant};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs something asynchronous to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// Pauses between looks at something that is to come true: most of it does within milliseconds.
pub fn pauses() -> impl FnMut() -> Duration {
    let mut next = Duration::from_millis(5);
    move || {
        let pause = next;
        next = (pause * 2).min(Duration::from_millis(50));
        pause
    }
}

/// Waits for something that is to come true.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    let mut pauses = pauses();
    while !done().await {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(pauses()).await;
    }
}

/// The same of something that blocks.
pub fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    let mut pauses = pauses();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(pauses());
    }
}
