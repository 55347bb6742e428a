//! A body that grows while it is read: lines of JSON, each sent at once.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

/// Lines that wait until the reader has taken them.
const LINES_WAITING_MAX: usize = 16;

/// The writing end.
#[derive(Clone, Debug)]
pub(super) struct Lines(mpsc::Sender<Bytes>);

impl Lines {
    /// Writes `value` as a line. False once nobody reads any more.
    pub(super) async fn write<T: Serialize>(&self, value: &T) -> bool {
        let mut line =
            serde_json::to_vec(value).expect("what the API says has nothing that JSON cannot hold");
        line.push(b'\n');
        self.0.send(line.into()).await.is_ok()
    }

    /// Writes a line that is one already, from outside of the loop's thread. False once nobody reads any more.
    pub(super) fn write_blocking(&self, mut line: String) -> bool {
        line.push('\n');
        self.0.blocking_send(line.into()).is_ok()
    }

    /// Waits until nobody reads any more: the connection was closed.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The reading end, as hyper wants it. Dropping it closes the writing end.
struct LinesBody(mpsc::Receiver<Bytes>);

impl hyper::body::Body for LinesBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

/// A response that ends when the last of the [`Lines`] is dropped.
pub(super) fn lines() -> (Lines, Response) {
    let (lines, body) = mpsc::channel(LINES_WAITING_MAX);
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    (Lines(lines), (headers, Body::new(LinesBody(body))).into_response())
}
