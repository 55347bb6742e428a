//! Why a client was refused: its side gets no more than an alert, and rustls no more than the alert's name, but whoever
//! accepted the connection needs the whole story for the log.

use std::cell::RefCell;

use super::Refusal;

tokio::task_local! {
    /// Of the handshake that the task is in.
    static REFUSED: RefCell<Option<Refusal>>;
}

/// Runs a handshake; gives, beside its result, why the client's certificate was refused if it was.
pub async fn with_refusal<T>(handshake: impl Future<Output = T>) -> (T, Option<Refusal>) {
    REFUSED
        .scope(RefCell::default(), async {
            let result = handshake.await;
            (result, REFUSED.with(RefCell::take))
        })
        .await
}

/// The certificate of this task's client is refused.
pub(super) fn note(refusal: Refusal) {
    // Outside of `with_refusal` nobody wants to know.
    let _ = REFUSED.try_with(|refused| refused.replace(Some(refusal)));
}
