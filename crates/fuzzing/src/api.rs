//! The API: HTTP, routes, queries and commands, up to the loop, which has ended and answers nothing.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use axum::Router;
use redb::backends::InMemoryBackend;
use sitegate_member::api::types::{CommandRequest, Progress, Status};
use sitegate_member::api::{Api, Glance, Who, serve_connection};
use sitegate_member::driver::{Driver, Parts};
use sitegate_member::journal::Journal;
use sitegate_member::peers::{Inbox, Peers};
use sitegate_member::service::Service;
use sitegate_member::store::{Loaded, Owner, Proof, Store};
use sitegate_protocol::{Identity, Nonce, Start};
use tempfile::TempDir;

use crate::fixture;

/// A connection of root's ends, whatever it sends; and what programs read of JSON is read the same once it is written again.
pub fn run(input: &[u8]) {
    let served = serve_connection(fixture::one_way(input), router(), Who::Local { uid: 0 });
    fixture::block_on(served);
    again::<CommandRequest>(input);
    again::<Progress>(input);
    again::<Status>(input);
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(input: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(input) {
        let text = serde_json::to_vec(&value).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<T>(&text).expect("what was written can be read"), value);
    }
}

fn router() -> Router {
    static ROUTER: OnceLock<(TempDir, Router)> = OnceLock::new();
    ROUTER
        .get_or_init(|| {
            let directory = tempfile::tempdir().expect("there is room for a directory");
            let router = Arc::new(api(&directory)).router(Router::new());
            (directory, router)
        })
        .1
        .clone()
}

/// An API in front of a loop that is over.
fn api(directory: &TempDir) -> Api {
    let shared = fixture::shared();
    let (inbox, frames) = Inbox::new();
    let peers = Arc::new(Peers::new(Arc::clone(&shared), inbox));
    let journal = Journal::open(&directory.path().join("journal")).expect("there is room for it");
    let owner = Owner::of(&shared.configuration.get());
    let Loaded { store, durable, lsn } =
        Store::in_backend(InMemoryBackend::new(), &owner, Identity(7)).expect("memory takes it");
    let parts = Parts {
        durable,
        store,
        proof: Proof::open(directory.path(), "boot", Identity(7)).expect("there is room for it"),
        start: Start { nonce: Nonce(1), seed: 1, lsn, proven: true },
        shared: Arc::clone(&shared),
        peers: Arc::clone(&peers),
        frames,
        journal: journal.clone(),
        site: None,
        service: Service::from_environment(),
    };
    let (driver, handle) =
        fixture::block_on(async { Driver::start(parts) }).expect("there is room for a thread");
    drop(driver);
    let (reloads, _) = tokio::sync::mpsc::channel(1);
    let commands = AtomicU64::new(1);
    Api { shared, peers, handle, journal, reloads, commands, glance: Glance::default() }
}

/// One request of each kind, and the JSON of both directions.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: paris\r\n\r\n");
    let post = |path: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: paris\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let command = |body: &str| post("/v1/commands", body);
    let grant = r#"{"command":"grant","ticket":"db","site":"lyon","reason":"maintenance","timeout_ms":1000}"#;
    let seeds = [
        ("status", get("/v1/status")),
        ("members", get("/v1/members")),
        ("explain", get("/v1/explain/db")),
        ("history", get("/v1/history?ticket=db&limit=10")),
        ("journal", get("/v1/journal")),
        ("healthz", get("/healthz")),
        ("metrics", get("/metrics")),
        ("nowhere", get("/v1/fence/%73tatus?")),
        ("reload", post("/v1/reload", "")),
        ("grant", command(grant)),
        ("two", command(grant) + &get("/healthz")),
        ("standby", command(r#"{"command":"standby","site":"paris","keep":true,"request":77}"#)),
        ("attest", command(r#"{"command":"attest-dead","site":"lyon","reason":"seen"}"#)),
        ("readmit", command(r#"{"command":"readmit","member":"tiebrake"}"#)),
        ("wrong", command(r#"{"command":"grand","ticket":""}"#)),
        ("chunked", "POST /v1/commands HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned()),
        ("json-command", grant.to_owned()),
        ("json-progress", r#"{"event":"accepted","request":77}"#.to_owned()),
        ("json-status", include_str!("../../../src/cli/status/answer.json").to_owned()),
    ];
    seeds.map(|(name, text)| (name.to_owned(), text.into_bytes())).into()
}
