//! A tiny replicated service: a counter at several sites, that is counted up where a ticket is held.
//!
//! ```text
//! replicated SOCKET TICKET LISTEN [PEER…]
//! ```
//!
//! The holder counts, copies each value to its peers with its token, and prints `TOKEN VALUE COPIES`. A replica refuses what
//! comes with a smaller token than the largest that it has seen, so what a holder of yesterday still sends changes nothing. Whoever
//! connects and writes nothing reads `TOKEN VALUE`.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sitegate_client::{Name, Token, Watch};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// How long one count may take, copies included.
const COUNT_WITHIN: Duration = Duration::from_millis(500);
/// How long one copy may take.
const COPY_WITHIN: Duration = Duration::from_millis(200);
/// How often it counts.
const EVERY: Duration = Duration::from_millis(50);
/// The longest line: two numbers.
const LINE_BYTES_MAX: u64 = 64;

/// What a replica has.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    token: Token,
    value: u64,
}

impl Counter {
    /// Takes what a holder sends, unless a later one has sent something before.
    fn take(&mut self, token: Token, value: u64) -> bool {
        let newer = (token, value) >= (self.token, self.value);
        if newer {
            *self = Self { token, value };
        }
        newer
    }
}

type Replica = Arc<Mutex<Counter>>;

fn with<T>(replica: &Replica, work: impl FnOnce(&mut Counter) -> T) -> T {
    work(&mut replica.lock().unwrap_or_else(PoisonError::into_inner))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, ticket, listen, peers @ ..] = arguments.as_slice() else {
        return Err("usage: replicated SOCKET TICKET LISTEN [PEER…]".into());
    };
    let replica = Replica::default();
    let listener = TcpListener::bind(listen).await?;
    tokio::spawn(serve(listener, Arc::clone(&replica)));
    let mut ticket = Watch::connect(Path::new(socket), Name::new(ticket)?).await?;
    loop {
        ticket.held().await;
        while let Ok(section) = ticket.enter(COUNT_WITHIN) {
            let token = section.token();
            let value = with(&replica, |counter| counter.value + 1);
            let copies = copy(peers, token, value).await;
            // It counts only if this site may still count: what has been copied is then the newest everywhere.
            if section.leave().is_ok() && with(&replica, |counter| counter.take(token, value)) {
                println!("{token} {value} {copies}");
            }
            sleep(EVERY).await;
        }
        sleep(EVERY).await;
    }
}

/// Sends a value to all peers; tells how many have taken it.
async fn copy(peers: &[String], token: Token, value: u64) -> usize {
    let mut copies = 0;
    for peer in peers {
        let sent = timeout(COPY_WITHIN, send(peer, token, value)).await;
        copies += usize::from(matches!(sent, Ok(Ok(true))));
    }
    copies
}

async fn send(peer: &str, token: Token, value: u64) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(peer).await?;
    stream.write_all(format!("{token} {value}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LINE_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer == "taken\n")
}

async fn serve(listener: TcpListener, replica: Replica) {
    loop {
        // One after the other: it is tiny. A peer that stalls is left after a moment.
        if let Ok((stream, _)) = listener.accept().await {
            let _ = timeout(COPY_WITHIN, answer(stream, &replica)).await;
        }
    }
}

async fn answer(stream: TcpStream, replica: &Replica) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let numbers = line.trim().split_once(' ');
    let sent = numbers.and_then(|(token, value)| Some((token.parse().ok()?, value.parse().ok()?)));
    let answer = match sent {
        Some((token, value)) if with(replica, |counter| counter.take(token, value)) => "taken\n".to_owned(),
        Some(_) => "refused\n".to_owned(),
        None => with(replica, |counter| format!("{} {}\n", counter.token, counter.value)),
    };
    write.write_all(answer.as_bytes()).await
}
