//! `GET /_ready`: readiness of the region's stores.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use gitferry_engine::region::Region;

/// Readiness check of a region.
#[derive(Debug)]
pub struct Readiness {
    region: Region,
}

impl Readiness {
    /// The readiness check of `region`.
    pub fn new(region: Region) -> Self {
        Readiness { region }
    }

    /// Checks the stores. The reason of a failure goes to the log only, as any client may ask.
    pub async fn answer(&self) -> Response {
        if self.region.stores().check().await.is_ok() && self.region.rolled_back().is_none() {
            return "ok\n".into_response();
        }
        let reason = format!("region {} cannot be used; the operator's log says why\n", self.region.name());
        (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
    }
}
