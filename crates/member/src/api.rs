//! The API: HTTP/1.1 with JSON, on a local Unix socket and, for those with a certificate, on the members' port.
//! `docs/api.md` is its manual.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sitegate_protocol::CommandId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::driver::{Handle, Observed};
use crate::journal::Journal;
use crate::peers::Peers;
use crate::shared::Shared;

mod asked;
mod commands;
mod error;
mod explain;
mod history;
mod metrics;
mod refusal;
mod serve;
mod status;
mod stream;
mod ticket;
pub mod types;
mod warnings;
mod who;

pub use asked::Asked;
pub use error::ApiError;
pub use serve::{Server, serve_connection, serve_socket};
pub use who::{SUDO_HEADER, Who};

/// The longest body of a request, in bytes: a command with a long reason is far shorter.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long the loop may take to say how it stands: it answers between commits, so a disk that takes longer hangs.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How old a look may be that is shared.
const GLANCE_EVERY: Duration = Duration::from_millis(200);
/// How long a reload may take: files are read and checked.
const RELOAD_WITHIN: Duration = Duration::from_secs(30);

/// Asks for a reload; what has changed comes back, or why nothing did.
pub type Reload = oneshot::Sender<Result<Vec<String>, String>>;

/// Everything that requests are answered from.
#[derive(Debug)]
pub struct Api {
    /// What the whole process shares.
    pub shared: Arc<Shared>,
    /// The other members.
    pub peers: Arc<Peers>,
    /// The loop.
    pub handle: Handle,
    /// The journal.
    pub journal: Journal,
    /// Who reloads.
    pub reloads: mpsc::Sender<Reload>,
    /// Numbers commands.
    pub commands: AtomicU64,
    /// The last look that commands shared.
    pub glance: Glance,
}

/// A look that is young enough for those who only want to say what they wait for.
#[derive(Debug, Default)]
pub struct Glance(tokio::sync::Mutex<Option<(Instant, Arc<Observed>)>>);

impl Api {
    /// All routes; `more` are those that only this daemon has.
    pub fn router(self: Arc<Self>, more: Router) -> Router {
        Router::new()
            .route("/v1/status", get(status::status))
            .route("/v1/members", get(status::members))
            .route("/v1/explain/{ticket}", get(explain::explain))
            .route("/v1/history", get(history::history))
            .route("/v1/journal", get(history::journal))
            .route("/v1/commands", post(commands::give))
            .route("/v1/reload", post(reload))
            .route("/healthz", get(status::healthz))
            .route("/metrics", get(metrics::metrics))
            .with_state(Arc::clone(&self))
            .merge(more)
            .fallback(nothing_there)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(self, admit))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
    }

    /// How it all stands.
    async fn look(&self) -> Result<Arc<Observed>, ApiError> {
        match timeout(LOOK_WITHIN, self.handle.look()).await {
            Ok(Ok(observed)) => Ok(observed),
            Ok(Err(gone)) => Err(ApiError::unavailable(gone.to_string(), "ask again in a moment")),
            Err(_elapsed) => Err(ApiError::unavailable(
                format!("a commit has been running for more than {LOOK_WITHIN:?}"),
                "look after the disk under state-dir",
            )),
        }
    }

    /// How it all stood a moment ago: however many commands wait, the loop is not asked more often than this.
    async fn glance(&self) -> Result<Arc<Observed>, ApiError> {
        let mut last = self.glance.0.lock().await;
        if let Some((at, observed)) = last.as_ref()
            && at.elapsed() < GLANCE_EVERY
        {
            return Ok(Arc::clone(observed));
        }
        let observed = self.look().await?;
        *last = Some((Instant::now(), Arc::clone(&observed)));
        Ok(observed)
    }

    fn next_command(&self) -> CommandId {
        CommandId(self.commands.fetch_add(1, Ordering::Relaxed))
    }
}

/// Counts a request, and turns away who may only look.
async fn admit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    api.shared.metrics.requests.add(1);
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let may = request.extensions().get::<Who>().is_some_and(|who| looks || who.may_command());
    if !may {
        return ApiError::forbidden(
            "this certificate may look, and nothing else",
            "use an operator's certificate",
        )
        .into_response();
    }
    next.run(request).await
}

async fn reload(State(api): State<Arc<Api>>) -> Result<axum::Json<types::Reloaded>, ApiError> {
    let (reply, answer) = oneshot::channel();
    let gone = || ApiError::unavailable("this member is ending".into(), "ask again in a moment");
    api.reloads.send(reply).await.map_err(|_| gone())?;
    match timeout(RELOAD_WITHIN, answer).await {
        Ok(Ok(Ok(changed))) => Ok(axum::Json(types::Reloaded { changed })),
        Ok(Ok(Err(why))) => {
            Err(ApiError::unprocessable(why, "nothing was changed; correct it and reload again"))
        }
        Ok(Err(_)) => Err(gone()),
        Err(_elapsed) => Err(ApiError::unavailable(
            format!("the reload has not ended within {RELOAD_WITHIN:?}"),
            "the log will say how it ended",
        )),
    }
}

async fn nothing_there(request: Request) -> ApiError {
    let path = request.uri().path();
    if path.starts_with("/v1/fence/") {
        return ApiError::not_found("an arbitrator fences nothing".into(), "ask a site");
    }
    ApiError::not_found(format!("there is no {path}"), "docs/api.md lists what there is")
}

async fn wrong_method(request: Request) -> ApiError {
    let text = format!("{} does not go with {}", request.method(), request.uri().path());
    ApiError::method_not_allowed(text, "docs/api.md lists what there is")
}
