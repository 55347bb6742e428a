//! Work on files, which may hang: on a thread of its own, made for it. Where none can be made, that is an error of the work and
//! not the daemon's end.

use std::io;
use std::thread;

use tokio::sync::oneshot;

/// Begins `work` on a thread called `name`.
pub(crate) fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (done, result) = oneshot::channel();
    // Whether anybody waits for it is not the work's affair.
    let thread = move || drop(done.send(work()));
    thread::Builder::new().name(name.to_owned()).spawn(thread)?;
    Ok(result)
}
