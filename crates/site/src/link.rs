//! The connection to the fence daemon: made again whenever it is lost.

use std::path::Path;
use std::time::Duration;

use sitegate_fence_client::status::Status;
use sitegate_fence_client::wire::Name;
use sitegate_fence_client::{Client, ClientError, Events};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::convert::is_arming;

/// The shortest pause between attempts: it may be starting at this very moment.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest: a fence daemon that comes back is missed for no longer.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long it may take to say how it stands; one that is stopped does not.
const HELLO_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait between questions while an arming is being recorded: about one commit.
const ARMING_PAUSE: Duration = Duration::from_millis(10);

/// A connection with what was said at its beginning.
#[derive(Debug)]
pub(super) struct Linked {
    pub(super) client: Client,
    pub(super) events: Events,
    pub(super) status: Status,
}

/// Connects to the fence daemon at `path`, however long that takes.
pub(super) async fn connect(path: &Path, site: &str) -> Linked {
    let mut pause = PAUSE_MIN;
    let mut told: Option<String> = None;
    loop {
        let failure = match timeout(HELLO_WITHIN, hello(path, site)).await {
            Ok(Ok(linked)) => {
                info!(version = linked.status.version, "the fence daemon answers");
                return linked;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => format!("sitegate-fenced did not answer within {HELLO_WITHIN:?}"),
        };
        if told.as_ref() != Some(&failure) {
            warn!("{failure}");
            told = Some(failure);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn hello(path: &Path, site: &str) -> Result<Linked, ClientError> {
    let (client, events, mut status) = Client::connect(path, Name::new(site).ok(), true).await?;
    while is_arming(&status) {
        sleep(ARMING_PAUSE).await;
        status = client.status().await?;
    }
    Ok(Linked { client, events, status })
}
