//! What the fence daemon says, through this member's API: its own socket is for root and its clients.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use sitegate_fence_client::status::{HistoryEntry, Status};
use sitegate_fence_client::wire::Name;
use sitegate_fence_client::{Client, ClientError};
use sitegate_member::api::{ApiError, Asked};
use tokio::time::timeout;

/// How long the fence daemon may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How many entries of its history are given if nobody says.
const LIMIT_DEFAULT: usize = 200;

/// The connection that holds now, if there is one. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Way(Arc<Mutex<Option<Client>>>);

impl Way {
    pub(super) fn set(&self, client: Option<Client>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    fn get(&self) -> Result<Client, ApiError> {
        let client = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        client.ok_or_else(|| unavailable("sitegate-fenced does not answer"))
    }
}

fn unavailable(error: &str) -> ApiError {
    ApiError::unavailable(error.into(), "is sitegate-fenced running on this host?")
}

pub(super) fn router(way: Way) -> Router {
    Router::new()
        .route("/v1/fence/status", get(status))
        .route("/v1/fence/history", get(history))
        .with_state(way)
}

async fn status(State(way): State<Way>) -> Result<Json<Status>, ApiError> {
    let client = way.get()?;
    answer(client.status()).await.map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    ticket: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/fence/history`.
#[derive(Debug, Serialize)]
struct History {
    /// Oldest first.
    entries: Vec<HistoryEntry>,
}

async fn history(
    State(way): State<Way>,
    Asked(question): Asked<Question>,
) -> Result<Json<History>, ApiError> {
    let resource = question.ticket.map(|name| Name::new(&name)).transpose();
    let resource = resource.map_err(|error| ApiError::bad_request(error.to_string(), ""))?;
    let client = way.get()?;
    let entries = answer(client.history(resource, Some(question.limit.unwrap_or(LIMIT_DEFAULT)))).await?;
    Ok(Json(History { entries }))
}

async fn answer<T>(asked: impl Future<Output = Result<T, ClientError>>) -> Result<T, ApiError> {
    match timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(unavailable(&error.to_string())),
        Err(_elapsed) => {
            Err(unavailable(&format!("sitegate-fenced did not answer within {ANSWER_WITHIN:?}")))
        }
    }
}
