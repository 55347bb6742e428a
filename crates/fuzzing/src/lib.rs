//! What sitegate is fuzzed with (docs/testing.md, "Fuzzing"): for each place where bytes come from outside, a function that
//! takes any bytes and panics if something is wrong.
//!
//! Three callers share these functions: the programs in `fuzz/fuzz_targets`, which libFuzzer drives; `tests/corpus.rs`,
//! which replays `fuzz/corpus` with every `cargo test`; and this package's program, which writes seeds.

pub mod api;
pub mod caller;
pub mod configuration;
mod fixture;
pub mod frame;
pub mod handshake;
pub mod journal;
pub mod lines;
pub mod members;
pub mod store;

/// The longest input that is of any use, in bytes.
pub const INPUT_BYTES_MAX: usize = 4096;

/// One place where bytes come from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As in `cargo xtask fuzz NAME`.
    pub name: &'static str,
    /// Takes any bytes, and panics if something is wrong.
    pub run: fn(&[u8]),
    /// Inputs that real programs would send, each with a name.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "api", run: api::run, seeds: api::seeds },
    Target { name: "caller", run: caller::run, seeds: caller::seeds },
    Target { name: "configuration", run: configuration::run, seeds: configuration::seeds },
    Target { name: "frame", run: frame::run, seeds: frame::seeds },
    Target { name: "handshake", run: handshake::run, seeds: handshake::seeds },
    Target { name: "journal", run: journal::run, seeds: journal::seeds },
    Target { name: "lines", run: lines::run, seeds: lines::seeds },
    Target { name: "members", run: members::run, seeds: members::seeds },
    Target { name: "store", run: store::run, seeds: store::seeds },
];
