//! Blocking work off the async threads.

/// Runs blocking work on a thread of its own, off the async threads.
pub async fn blocking<T, E, F>(work: F) -> std::result::Result<T, E>
where
    F: FnOnce() -> std::result::Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<std::io::Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(format!("a background task failed: {error}")).into()),
    }
}
