//! The journal, for those who ask.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use sitegate_host::durable::DurableError;
use tracing::warn;

use super::stream::lines;
use super::types::History;
use super::{Api, ApiError, Asked};
use crate::journal::{read_all, read_newest};

/// How many entries are given if nobody says.
const LIMIT_DEFAULT: usize = 200;
/// How many entries are given at most; `/v1/journal` has them all.
const LIMIT_MAX: usize = 5000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    ticket: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn history(
    State(api): State<Arc<Api>>,
    Asked(question): Asked<Question>,
) -> Result<Json<History>, ApiError> {
    let limit = question.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let directory = api.journal.directory();
    let read = move || read_newest(&directory, question.ticket.as_deref(), limit);
    Ok(Json(History { entries: in_background(read).await? }))
}

/// The whole journal as it lies on the disk, for `verify` and for keeping elsewhere: read as fast as it is taken.
pub(super) async fn journal(State(api): State<Arc<Api>>) -> Response {
    let directory = api.journal.directory();
    let (lines, response) = lines();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read_all(&directory, |line| lines.write_blocking(line)) {
            warn!(%error, source = %error.source, "the journal cannot be read");
        }
    });
    response
}

/// Reads without holding up the loop.
async fn in_background<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, DurableError> + Send + 'static,
) -> Result<T, ApiError> {
    let hint = "look after the disk under state-dir";
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(ApiError::internal(format!("{error}: {}", error.source), hint)),
        Err(error) => Err(ApiError::internal(format!("reading the journal failed: {error}"), hint)),
    }
}
