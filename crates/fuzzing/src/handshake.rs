//! The port before anybody has said who they are: TLS, certificates, ALPN.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConnection, ServerConfig};
use sitegate_member::port::shake_hands;
use sitegate_member::shared::Shared;
use sitegate_member::tls::{Service, server_name};

use crate::fixture;

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();
    SHARED.get_or_init(fixture::shared)
}

/// Nobody gets in without a key, whatever they send.
pub fn run(input: &[u8]) {
    let tls: Arc<ServerConfig> = Arc::clone(&shared().tls.get().server);
    let shaken = fixture::block_on(shake_hands(tls, fixture::one_way(input)));
    match shaken {
        Ok((_, peer, service)) => panic!("{} got in for {service:?} with nothing but bytes", peer.principal),
        Err(why) => assert!(!why.is_empty(), "the log has to say something"),
    }
}

/// What a member, and what a browser might begin with.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let tls = shared().tls.get();
    let hello = |service| {
        let member = fixture::formation().members[1].name.clone();
        let config = tls.credentials.client_to(&member, service);
        let mut client = ClientConnection::new(config, server_name()).expect("the configuration is good");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("memory takes it");
        bytes
    };
    vec![
        ("peer".into(), hello(Service::Peer)),
        ("api".into(), hello(Service::Api)),
        ("http".into(), b"GET /v1/status HTTP/1.1\r\nHost: paris\r\n\r\n".to_vec()),
        ("alert".into(), vec![21, 3, 3, 0, 2, 2, 40]),
    ]
}
