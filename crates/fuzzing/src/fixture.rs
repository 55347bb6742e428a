//! Paris of formation acme, as far as one process without a disk or a network can be it.

use std::future::Future;
use std::sync::Arc;

use sitegate_host::diagnostic::Source;
use sitegate_member::config::{Configuration, Formation, Local, TlsFiles};
use sitegate_member::shared::Shared;
use sitegate_member::tls::MemberTls;
use sitegate_protocol::MemberId;
use tokio::runtime::{Builder, Runtime};

#[path = "../../member/tests/support/authority.rs"]
#[allow(dead_code, unreachable_pub, clippy::expect_used, reason = "only some of it is needed here")]
mod authority;

use authority::Authority;

/// Sites paris and lyon, arbitrator tiebreak.
pub(crate) const FORMATION: &str = concat!(
    include_str!("../../member/tests/acme.toml"),
    "\n[ticket-defaults]\nacquire-after = \"45s\"\n[ticket.db]\n[ticket.web]\n"
);

/// How many members formation acme has.
pub(crate) const MEMBERS: u8 = 3;

pub(crate) fn formation() -> Formation {
    Formation::parse(&Source::new("formation.toml", FORMATION)).expect("it is good")
}

/// The configuration of `me`, with these files.
pub(crate) fn configuration(me: &str, tls: &TlsFiles) -> Configuration {
    let formation = formation();
    let (ca, cert, key) = (tls.ca.display(), tls.cert.display(), tls.key.display());
    let local = format!("name = \"{me}\"\n[tls]\nca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n");
    let local = Local::parse(&Source::new("member.toml", local), Some(&formation)).expect("it is good");
    Configuration { formation, local }
}

/// Certificate files of which nobody looks inside.
pub(crate) fn no_files() -> TlsFiles {
    TlsFiles { ca: "/ca".into(), cert: "/cert".into(), key: "/key".into(), crl: None, strict_expiry: false }
}

/// What all of paris shares, with certificates made up for this process.
pub(crate) fn shared() -> Arc<Shared> {
    let mut authority = Authority::alone();
    let files = authority.member("paris");
    let configuration = configuration("paris", &files);
    let tls = MemberTls::load(&files, &configuration.formation, &configuration.local.name);
    Arc::new(Shared::new(configuration, tls.expect("the files are good"), 1))
}

pub(crate) fn member(id: u8) -> MemberId {
    MemberId::new(id).expect("not 0")
}

/// Runs a future to its end, in a runtime of this thread's own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("it can be made");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Bytes that arrive one after the other, then nothing; what is written to it goes nowhere.
pub(crate) type OneWay = tokio::io::Join<std::io::Cursor<Vec<u8>>, tokio::io::Sink>;

pub(crate) fn one_way(bytes: &[u8]) -> OneWay {
    tokio::io::join(std::io::Cursor::new(bytes.to_vec()), tokio::io::sink())
}

/// The messages that `crates/member/tests/golden` has, by name.
pub(crate) fn golden() -> impl Iterator<Item = (String, Vec<u8>)> {
    let text = include_str!("../../member/tests/golden/version-1.txt");
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, hex) = line.split_once(": ")?;
        let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
        Some((name.replace('/', "-"), bytes?))
    })
}
