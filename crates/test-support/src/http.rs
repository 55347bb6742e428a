//! A small HTTP client: one request a connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::wait::PATIENCE;

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its code.
    pub status: u16,
    /// Without the head.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The body as lines of JSON.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A member's Unix socket.
#[derive(Clone, Debug)]
pub struct Unix(PathBuf);

impl Unix {
    /// At that path.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    /// A connection of one's own.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> std::io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.0)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Asks with GET.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        ask(self.connect().unwrap(), &get(path)).unwrap()
    }

    /// `None` if nobody answers.
    #[must_use]
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        ask(self.connect().ok()?, &get(path)).ok()
    }

    /// Asks with POST.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        ask(self.connect().unwrap(), &post(path, body)).unwrap()
    }
}

/// A request.
#[must_use]
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

/// A request with a body.
#[must_use]
pub fn post(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends a request and reads the answer to its end.
///
/// # Errors
/// Those of `stream`, and an answer that is none.
pub fn ask(mut stream: impl Read + Write, request: &str) -> std::io::Result<Answer> {
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some(Answer { status, body: if chunked { unchunk(body) } else { body.to_owned() } })
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        if length == 0 || rest.len() < length {
            break;
        }
        whole.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}
