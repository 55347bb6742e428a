//! What a member says that has shown its certificate: hello, lengths, frames, in one stream.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use sitegate_member::peers::{Inbox, Peers, serve_stream};
use sitegate_member::shared::Shared;
use sitegate_member::wire::{Hello, Lane, PACKET_BYTES_MAX};

use crate::fixture::{self, member};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Its frames reach the loop checked, and the connection ends when it does.
pub fn run(input: &[u8]) {
    static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();
    let shared = SHARED.get_or_init(fixture::shared);
    let (inbox, mut frames) = Inbox::new();
    let peers = Peers::new(Arc::clone(shared), inbox);
    fixture::block_on(async {
        let mut stream = fixture::one_way(input);
        let mut served = std::pin::pin!(serve_stream(&peers, member(2), &mut stream, ADDRESS));
        loop {
            let frame = tokio::select! {
                biased;
                () = &mut served => break,
                frame = frames.prompt.recv() => frame,
                frame = frames.other.recv() => frame,
            };
            let frame = frame.expect("the inbox is open");
            assert_eq!(frame.as_frame().header.from, member(2), "nobody speaks for others");
        }
    });
    let connected = peers.states().values().any(|state| state.called);
    assert!(!connected, "a connection that has ended is not counted any more");
}

/// A hello, then each of the golden messages.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let formation = fixture::formation();
    let with_length = |message: &[u8]| {
        assert!(message.len() <= PACKET_BYTES_MAX);
        let length = u32::try_from(message.len()).expect("it is short");
        [&length.to_be_bytes()[..], message].concat()
    };
    let hello = |lane| with_length(&Hello::new(&formation, lane, 7).encode());
    let packets = fixture::golden().filter(|(name, _)| name.starts_with("packet"));
    let mut seeds: Vec<(String, Vec<u8>)> =
        packets.map(|(name, bytes)| (name, [hello(Lane::Bulk), with_length(&bytes)].concat())).collect();
    seeds.push(("hello".into(), hello(Lane::Pulse)));
    seeds
}
