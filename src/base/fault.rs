//! Crash points: places where tests abort the process. They exist in test builds only.

/// Aborts the process if a test has armed the point (`FAILPOINTS="name=return"`).
pub fn crash_point(name: &str) {
    let _ = name;
    fail::fail_point!(name, |_| std::process::abort());
}
