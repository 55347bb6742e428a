//! Waiting for descriptors that tokio has no type for.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers an owned descriptor with the runtime.
#[expect(
    deprecated,
    reason = "`AsyncFd::new` is unsound for types whose descriptor may change or close; an `OwnedFd` does neither, \
              and its successor needs `unsafe`"
)]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
