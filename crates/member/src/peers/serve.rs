//! Being called by a member: its frames, checked, on their way to the driver.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sitegate_protocol::{MemberId, ValidFrame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::{error, info, warn};

use super::tcp::set_up;
use super::{Link, Peers};
use crate::tls::{Peer, Principal, Standing, explain};
use crate::wire::{
    Answer, HELLO_BYTES_MAX, Hello, Lane, PACKET_BYTES_MAX, Packet, Refused, WireError, decode, read_length,
    read_message, read_rest, write_message,
};

/// How long a message may take from its first byte to its last: a megabyte over a slow line.
const MESSAGE_WITHIN: Duration = Duration::from_secs(10);

/// Serves a connection that `caller`, a member by its certificate, has opened, until it ends. What is wrong with it is
/// said in the log, and nobody else is any worse for it.
pub async fn serve(peers: &Arc<Peers>, mut stream: TlsStream<TcpStream>, address: SocketAddr, caller: &Peer) {
    let Principal::Member(name) = &caller.principal else { return };
    let Some(link) = peers.shared.names.id(name.as_str()).and_then(|id| peers.links.get(&id)) else {
        let complaints = &peers.shared.complaints;
        complaints.about(address.ip(), || {
            format!("somebody calls with this member's own certificate: are there two members named {name}?")
        });
        return;
    };
    link.with_state(|state| state.certificate_ends = Some(caller.validity.not_after));
    let standing = caller.standing(std::time::SystemTime::now());
    match standing {
        Standing::Valid => {}
        Standing::Expiring => {
            let days_left = caller.validity.days_left(std::time::SystemTime::now());
            warn!(member = %link.name, days_left, "a member's certificate ends soon: run `sitegate pki renew`");
        }
        Standing::NotYetValid | Standing::Expired => {
            warn!(member = %link.name, ?standing, "a member's certificate is out of date: run `sitegate pki renew`");
        }
    }
    // It runs: no need to wait before calling back.
    link.shown.values().for_each(tokio::sync::Notify::notify_one);
    if let Err(error) = set_up(stream.get_ref().0, peers.pace()) {
        warn!(member = %link.name, %error, "cannot set up a connection");
    }
    listen_to(peers, link, &mut stream, address.ip()).await;
}

/// Takes what `caller` says over `stream`, which is known to be it, until that ends.
pub async fn serve_stream(
    peers: &Peers,
    caller: MemberId,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    address: IpAddr,
) {
    if let Some(link) = peers.links.get(&caller) {
        listen_to(peers, link, stream, address).await;
    }
}

async fn listen_to(
    peers: &Peers,
    link: &Link,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    address: IpAddr,
) {
    let (complaints, name) = (&peers.shared.complaints, &link.name);
    match timeout(MESSAGE_WITHIN, greet(peers, link, stream)).await {
        Ok(Ok(Some(greeted))) => {
            let why = Served::begin(peers, link, greeted).run(stream).await;
            complaints.note_end(address, name, greeted.lane, why);
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => complaints
            .about(address, || format!("member {name} shakes hands strangely: {}", wire_error(&error))),
        Err(_elapsed) => complaints.about(address, || format!("member {name} did not say hello in time")),
    }
}

/// What a hello told.
#[derive(Clone, Copy, Debug)]
struct Greeted {
    lane: Lane,
    boot: u128,
}

async fn greet(
    peers: &Peers,
    link: &Link,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<Option<Greeted>, WireError> {
    let Some(message) = read_message(stream, HELLO_BYTES_MAX).await? else { return Ok(None) };
    let hello = Hello::decode(&message)?;
    let answer = hello.answer(&peers.shared.configuration.get().formation);
    write_message(stream, &answer.encode()).await?;
    match answer {
        Answer::Welcome { .. } => {
            link.with_state(|state| {
                state.configuration = Some(hello.configuration);
                state.refused = None;
            });
            Ok(Some(Greeted { lane: hello.lane, boot: hello.boot }))
        }
        Answer::Refused(why) => {
            let why = match why {
                Refused::IdMap => {
                    "its formation.toml has other members, numbers or roles than ours".to_owned()
                }
                Refused::Version { .. } => {
                    format!(
                        "it speaks versions {} to {} of the members' protocol",
                        hello.oldest, hello.newest
                    )
                }
            };
            let told = link.with_state(|state| state.refused.replace(why.clone()));
            if told.as_ref() != Some(&why) {
                error!(member = %link.name, why, "refused a member");
            }
            Ok(None)
        }
    }
}

/// A connection on which a member reaches us.
struct Served<'p> {
    peers: &'p Peers,
    link: &'p Link,
    greeted: Greeted,
    number: u64,
}

/// Connections of one member on one lane. When there is another, the oldest is ended.
const PER_LANE_MAX: usize = 4;

/// Numbers connections.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

impl<'p> Served<'p> {
    fn begin(peers: &'p Peers, link: &'p Link, greeted: Greeted) -> Self {
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        link.called[&greeted.lane].send_modify(|open| {
            open.insert(number);
            if open.len() > PER_LANE_MAX {
                open.pop_first();
            }
        });
        info!(member = %link.name, lane = greeted.lane.name(), "is called");
        Self { peers, link, greeted, number }
    }

    /// Takes frames until the end; what is wrong, if anything.
    async fn run(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<String> {
        let mut renewals = self.peers.renewals.subscribe();
        let mut open = self.link.called[&self.greeted.lane].subscribe();
        loop {
            let length = tokio::select! {
                length = read_length(stream) => length,
                _ = renewals.changed() => return None,
                _ = open.wait_for(|open| !open.contains(&self.number)) => {
                    return Some("it has called again too often".into());
                }
            };
            let message = match length {
                Ok(None) => return None,
                Ok(Some(length)) => {
                    timeout(MESSAGE_WITHIN, read_rest(stream, length, PACKET_BYTES_MAX)).await
                }
                Err(error) => return Some(wire_error(&error)),
            };
            let taken = match message {
                Ok(Ok(message)) => self.take(&message).await,
                Ok(Err(error)) => Err(wire_error(&error)),
                Err(_elapsed) => Err("a message took too long".into()),
            };
            if let Err(why) = taken {
                return Some(why);
            }
        }
    }

    async fn take(&self, message: &[u8]) -> Result<(), String> {
        let count = &self.peers.shared.metrics.lanes[self.greeted.lane];
        count.received(message.len());
        let packet: Packet = decode(message).map_err(|error| error.to_string())?;
        let member: MemberId = self.link.member;
        self.peers.shared.suspicion.heard(member, self.greeted.boot, packet.sent);
        match ValidFrame::check(packet.frame, member, &self.peers.shared.settings.get()) {
            Ok(frame) => {
                if self.peers.inbox.put(frame).await {
                    Ok(())
                } else {
                    Err("this member ends".into())
                }
            }
            Err(misbehaved) => {
                count.refused.add(1);
                let complaints = &self.peers.shared.complaints;
                complaints.about_member(&self.link.name, || format!("a frame was dropped: {misbehaved}"));
                Ok(())
            }
        }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.link.called[&self.greeted.lane].send_if_modified(|open| open.remove(&self.number));
    }
}

fn wire_error(error: &WireError) -> String {
    match error {
        WireError::Io(error) => explain(error),
        error => error.to_string(),
    }
}
