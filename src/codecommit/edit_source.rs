//! The objects of a repository as edits and merges read them.

use gitferry_api::{ApiError, Result};
use gitferry_base::Kind;
use gitferry_content::{ContentError, Reader, ViewSource};
use gitferry_engine::region::push::PushState;
use gitferry_engine::region::{RegionError, blocking};

use crate::failure::not_allowed;
use crate::opened::Leaving;
use crate::operation::Ask;

/// Works on the objects of a state, on a thread for blocking work, with a permit to compute, until the client leaves.
///
/// # Errors
/// The packs cannot be opened, or the thread ended early; or the host has no room to compute.
pub async fn with_reader<T: Send + 'static>(
    ask: &Ask<'_>,
    state: PushState,
    work: impl FnOnce(&mut Reader<'_>) -> T + Send + 'static,
) -> Result<T> {
    let name = state.item.head.name.clone();
    let permit = ask.workshop.repositories.begin_compute().await.ok_or_else(ApiError::unavailable)?;
    let leaving = Leaving::default();
    let is_canceled = leaving.watch();
    let working = move || {
        let _permit = permit;
        let mut source = ViewSource::new(&state.view)?;
        Ok::<_, RegionError>(work(&mut Reader::new(&mut source, &is_canceled)))
    };
    blocking(working).await.map_err(|error| ask.workshop.failed(&name, &error))
}

/// A failure to read or make objects as the API has it.
pub fn of_content(ask: &Ask<'_>, name: &str, error: ContentError) -> ApiError {
    match (error.kind(), error) {
        (_, ContentError::Storage(error)) => ask.workshop.failed(name, &RegionError::Pack(error)),
        (Kind::Refused, error) => not_allowed(format!("{error}.")),
        (_, error) => {
            tracing::error!(name, %error, "an operation cannot read the objects of a repository");
            ApiError::unavailable()
        }
    }
}
