//! What `sitegated` adds to a member: the fence daemon that its orders go to, the hooks that say whether this site may have
//! and keep a ticket, and the inequality between them and the formation.
//!
//! One task holds it all together: orders of the protocol come in, requests to the fence daemon and programs go out, and
//! what came of them goes back as events. It never waits for any of them.

use std::path::Path;

use axum::Router;
use sitegate_host::program::Runner;
use sitegate_member::site::SitePort;

mod budget;
mod checks;
mod convert;
mod desk;
mod hooks;
mod link;
mod requests;
mod routes;

pub use budget::check;

use desk::Desk;
use routes::Way;

/// Begins to do a site's work; gives the routes that only a site has. Needs the runtime that it will run in.
pub fn attach(port: SitePort) -> Router {
    let state_dir = port.shared.configuration.get().local.state_dir.clone();
    let way = Way::default();
    match Runner::new(&mark(&state_dir)) {
        Ok(runner) => drop(tokio::spawn(Desk::new(port, runner, way.clone()).serve())),
        // Without a thread that kills, no hook may run; nor will anything be acquired.
        Err(error) => tracing::error!(%error, "cannot run hooks: this site takes no tickets"),
    }
    routes::router(way)
}

/// What marks the programs of this daemon, so that the next one finds what a crash has left.
fn mark(state_dir: &Path) -> String {
    let path = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_path_buf());
    format!("sitegated:{}", path.display())
}
