//! Crash points: places where tests let the process die. They exist only in builds of the tests.

/// Dies here when a test armed the point (`FAILPOINTS="name=return"`); does nothing otherwise.
pub fn crash_point(name: &str) {
    let _ = name;
    fail::fail_point!(name, |_| std::process::abort());
}
