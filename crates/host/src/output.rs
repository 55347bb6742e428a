//! What programs write, on its way to the log: line by line, bounded.

use std::collections::VecDeque;
use std::fmt::Write as _;

use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::{info, warn};

/// How much of one program run goes to the log, in bytes. A hook that says more is ill; the log must not suffer.
pub const LOGGED_BYTES_MAX: u64 = 64 * 1024;
/// What a line counts beside its text, in bytes: about what the log puts around it (time, level, ticket, program). Without it,
/// lines of a byte each would make a log many times as long as what they say.
pub const LINE_OVERHEAD_BYTES: u64 = 128;
/// The longest logged line, in bytes; what is longer is broken.
pub const LINE_BYTES_MAX: usize = 1024;
/// How much of the end is kept to be shown with an error, in bytes.
pub const TAIL_BYTES_MAX: usize = 2048;

/// Collects the output of one run.
#[derive(Debug)]
pub struct Collector {
    ticket: String,
    program: String,
    line: Vec<u8>,
    tail: VecDeque<u8>,
    /// What was logged has cost, in bytes.
    logged: u64,
    /// What was not logged, in bytes as they were written.
    dropped: u64,
}

impl Collector {
    /// For a run of `program` on behalf of `ticket`; both go into each log line.
    #[must_use]
    pub fn new(ticket: &str, program: &str) -> Self {
        let (ticket, program) = (ticket.to_owned(), program.to_owned());
        Self { ticket, program, line: Vec::new(), tail: VecDeque::new(), logged: 0, dropped: 0 }
    }

    /// Reads until the end or an error, which is an end too. Can be dropped between reads without losing what was read.
    pub async fn drain(&mut self, from: &mut (impl AsyncRead + Unpin)) {
        let mut buffer = [0_u8; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            self.take(&buffer[..count]);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let keep = bytes.len().min(TAIL_BYTES_MAX);
        self.tail.extend(&bytes[bytes.len() - keep..]);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..excess);
        for byte in bytes {
            if *byte == b'\n' || self.line.len() >= LINE_BYTES_MAX {
                self.log_line();
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
    }

    fn log_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = printable(&line);
        let cost = text.len() as u64 + 1 + LINE_OVERHEAD_BYTES;
        if self.logged + cost > LOGGED_BYTES_MAX {
            self.dropped += line.len() as u64 + 1;
            return;
        }
        self.logged += cost;
        info!(ticket = %self.ticket, program = %self.program, "{text}");
    }

    /// Ends the collection: logs an unfinished line and how much was left out; gives the last of the output.
    #[must_use]
    pub fn finish(mut self) -> String {
        if !self.line.is_empty() {
            self.log_line();
        }
        if self.dropped > 0 {
            let (ticket, program) = (&self.ticket, &self.program);
            warn!(%ticket, %program, dropped_bytes = self.dropped, "wrote more than is logged of one run; the rest was dropped");
        }
        printable(self.tail.make_contiguous()).trim().to_owned()
    }
}

/// As text without control characters, which could forge log lines or upset a terminal.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\n' | '\t' => text.push(c),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(text, "{}", c.escape_default());
            }
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_is_drained_and_counted() {
        let flood = vec![b'x'; 1_000_000];
        let mut collector = Collector::new("db", "/bin/flood");
        collector.drain(&mut flood.as_slice()).await;
        assert!(collector.logged <= LOGGED_BYTES_MAX);
        assert!(collector.dropped > 900_000);
        assert!(collector.line.len() <= LINE_BYTES_MAX);
        assert_eq!(collector.finish().len(), TAIL_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_flood_of_short_lines_costs_no_more_than_one_of_long_lines() {
        const LINES: u64 = 50_000;
        let flood = "x\n".repeat(50_000);
        let mut collector = Collector::new("db", "/bin/flood");
        collector.drain(&mut flood.as_bytes()).await;
        let logged_lines = LINES - collector.dropped / 2;
        assert_eq!(logged_lines, LOGGED_BYTES_MAX / (LINE_OVERHEAD_BYTES + 2));
        assert!(logged_lines * (LINE_OVERHEAD_BYTES + 2) <= LOGGED_BYTES_MAX);
    }

    #[tokio::test]
    async fn what_takes_more_room_when_it_is_made_printable_counts_as_that() {
        let line = [b"\x01".repeat(1000), b"\n".to_vec()].concat();
        let printed = "\\u{1}".repeat(1000).len() as u64 + 1 + LINE_OVERHEAD_BYTES;
        let mut collector = Collector::new("db", "/bin/flood");
        collector.drain(&mut line.repeat(100).as_slice()).await;
        assert_eq!(100 - collector.dropped / 1001, LOGGED_BYTES_MAX / printed);
    }

    #[tokio::test]
    async fn the_end_is_kept() {
        let mut collector = Collector::new("db", "/bin/x");
        collector.drain(&mut &b"first\nlast \x1b[31mline\xff\n"[..]).await;
        assert_eq!(collector.finish(), "first\nlast \\u{1b}[31mline\u{fffd}");
    }
}
