//! What goes over a peer connection, as bytes: a length of four bytes, big endian, then so many bytes of postcard.
//!
//! The caller sends a [`Hello`], the other side answers with an [`Answer`], then the caller sends [`Packet`]s for as long
//! as the connection lasts and the other side says nothing more. `tests/golden` holds the bytes of every version.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sitegate_protocol::{Body, Boot, Frame, Header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

mod hello;

pub use hello::{Answer, Hello, Lane, Refused, VERSION_NEWEST, VERSION_OLDEST};

/// The longest packet, in bytes. The longest single body is a page of a recovery (500 registers of at most some 600
/// bytes), a third of this; frames with more bodies than fit are sent in parts. It bounds what a peer can make us keep.
pub const PACKET_BYTES_MAX: usize = 1024 * 1024;
/// The longest hello or answer, in bytes: names, two digests and room for what later versions add.
pub const HELLO_BYTES_MAX: usize = 1024;

/// Bytes of the length in front of a message.
const LENGTH_BYTES: usize = 4;
/// How much is read at a time: a length that is a lie must not allocate memory before its bytes arrive.
const READ_BYTES: usize = 16 * 1024;

/// A frame on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The sender's boot clock when it was made: shows a receiver whose own clock stood still (`driver/suspicion.rs`).
    pub sent: Boot,
    /// What it is about.
    pub frame: Frame,
}

/// What a peer sent that is no message; its fault, or of whoever sits in between.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It claims to be longer than anything is.
    #[error("a message of {length} bytes, but at most {most} are allowed")]
    TooLong {
        /// What was claimed.
        length: usize,
        /// What is allowed.
        most: usize,
    },
    /// Its bytes mean nothing.
    #[error("a message that cannot be read: {0}")]
    Garbage(#[from] postcard::Error),
    /// More bytes than the message has.
    #[error("a message with {0} bytes too many")]
    Excess(usize),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads one message of at most `most` bytes, without its length; `None` at the end of the stream between messages.
///
/// # Errors
/// [`WireError::TooLong`], or [`WireError::Io`] also if the stream ends within a message.
pub async fn read_message(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> Result<Option<Vec<u8>>, WireError> {
    match read_length(from).await? {
        None => Ok(None),
        Some(length) => read_rest(from, length, most).await.map(Some),
    }
}

/// Reads the length of the next message; `None` at the end of the stream.
///
/// # Errors
/// [`WireError::Io`].
pub async fn read_length(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<usize>, WireError> {
    let mut length = [0_u8; LENGTH_BYTES];
    let mut have = 0;
    while have < LENGTH_BYTES {
        let count = match from.read(&mut length[have..]).await {
            // A process that is killed says no farewell in TLS; between two messages it has cut nothing short.
            Err(error) if have == 0 && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        };
        match count {
            0 if have == 0 => return Ok(None),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            count => have += count,
        }
    }
    Ok(Some(u32::from_be_bytes(length) as usize))
}

/// Reads the `length` bytes that follow a length.
///
/// # Errors
/// As [`read_message`].
pub async fn read_rest(
    from: &mut (impl AsyncRead + Unpin),
    length: usize,
    most: usize,
) -> Result<Vec<u8>, WireError> {
    if length > most {
        return Err(WireError::TooLong { length, most });
    }
    let mut message = Vec::new();
    while message.len() < length {
        let have = message.len();
        message.resize(length.min(have + READ_BYTES), 0);
        from.read_exact(&mut message[have..]).await?;
    }
    Ok(message)
}

/// Writes one message with its length.
///
/// # Errors
/// Those of writing.
pub async fn write_message(to: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    to.write_all(&with_length(message)).await?;
    to.flush().await
}

/// Reads a whole message as `T`.
///
/// # Errors
/// [`WireError::Garbage`], and [`WireError::Excess`] if something follows.
pub fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, WireError> {
    let (value, rest) = postcard::take_from_bytes(message)?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::Excess(rest.len())) }
}

/// The bytes of `value`, without a length.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("nothing that is sent has a type that postcard cannot write")
}

/// `frame` as messages with their lengths: one, or as many as it takes to keep each within [`PACKET_BYTES_MAX`].
#[must_use]
pub fn packets(sent: Boot, frame: Frame) -> Vec<Vec<u8>> {
    let whole = with_length(&encode(&Packet { sent, frame: frame.clone() }));
    if whole.len() <= PACKET_BYTES_MAX {
        return vec![whole];
    }
    let Frame { header, bodies } = frame;
    in_parts(&header, bodies)
        .into_iter()
        .map(|bodies| with_length(&encode(&Packet { sent, frame: Frame { header: header.clone(), bodies } })))
        .collect()
}

/// Bodies in groups that fit into a packet each, in order.
fn in_parts(header: &Header, bodies: Vec<Body>) -> Vec<Vec<Body>> {
    let fixed = encode(header).len() + HELLO_BYTES_MAX;
    let (mut parts, mut part, mut length) = (Vec::new(), Vec::new(), fixed);
    for body in bodies {
        let more = encode(&body).len();
        if length + more > PACKET_BYTES_MAX && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            length = fixed;
        }
        length += more;
        part.push(body);
    }
    parts.push(part);
    parts
}

fn with_length(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("messages are far shorter than 4 GiB");
    [length.to_be_bytes().as_slice(), message].concat()
}

#[cfg(test)]
mod tests {
    use sitegate_protocol::{Epoch, Identity, Incarnation, Life, Lsn, MemberId, Nonce, TicketName};

    use super::*;

    fn frame(bodies: Vec<Body>) -> Frame {
        let life = Life { incarnation: Incarnation(3), nonce: Nonce(9) };
        let from = MemberId::new(2).unwrap();
        let header = Header {
            epoch: Epoch(0),
            from,
            identity: Identity(77),
            life,
            lsn: Lsn(5),
            to: None,
            known: vec![(from, life)],
        };
        Frame { header, bodies }
    }

    async fn read_all(mut bytes: &[u8]) -> Result<Vec<Packet>, WireError> {
        let mut packets = Vec::new();
        while let Some(message) = read_message(&mut bytes, PACKET_BYTES_MAX).await? {
            packets.push(decode(&message)?);
        }
        Ok(packets)
    }

    #[tokio::test]
    async fn what_is_too_long_comes_in_parts() {
        let name = |i: usize| TicketName::new(&format!("{i:063}")).unwrap();
        let body = |i: usize| Body::ListAsk { seq: None, after: Some(name(i)) };
        let frame = frame((0..40_000).map(body).collect());
        let messages = packets(Boot(1), frame.clone());
        assert!(messages.len() > 2 && messages.iter().all(|m| m.len() <= PACKET_BYTES_MAX));
        let read = read_all(&messages.concat()).await.unwrap();
        let bodies: Vec<Body> = read.into_iter().flat_map(|packet| packet.frame.bodies).collect();
        assert_eq!(bodies, frame.bodies);
    }

    #[tokio::test]
    async fn what_was_cut_short_is_no_message() {
        let message = &packets(Boot(1), frame(vec![Body::Heartbeat { seq: 1 }]))[0];
        assert_eq!(read_all(message).await.unwrap().len(), 1);
        for length in 1..message.len() {
            let cut = read_all(&message[..length]).await;
            assert!(
                matches!(&cut, Err(WireError::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof),
                "{cut:?}"
            );
        }
    }

    #[tokio::test]
    async fn lies_and_garbage_are_told_apart() {
        let huge = u32::MAX.to_be_bytes();
        assert!(matches!(read_all(&huge).await, Err(WireError::TooLong { .. })));
        let garbage = with_length(&[0xff; 64]);
        assert!(matches!(read_all(&garbage).await, Err(WireError::Garbage(_))));
        let mut excess = encode(&Packet { sent: Boot(1), frame: frame(vec![]) });
        excess.push(0);
        assert!(matches!(read_all(&with_length(&excess)).await, Err(WireError::Excess(1))));
    }
}
