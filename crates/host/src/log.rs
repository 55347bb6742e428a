//! The log of a daemon, written to standard error by a thread of its own: a log that hangs, with its disk, its pipe or a journald that
//! is stopped, must not hang the daemon. Lines for people, JSON, or journald.

use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::journald::JournalLines;

/// How many lines may wait to be written; more are dropped, and counted.
const LINES_MAX: usize = 8192;
/// How long the last lines may take at the end.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its form.
    pub format: LogFormat,
    /// Which events are logged: a level, or directives as in `info,sitegate_member=debug`; known to parse.
    pub filter: String,
}

/// The form of a log, on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// For journald: with priorities and without times.
    Journald,
}

/// Logging that has begun.
#[derive(Debug)]
pub struct Logging {
    lines: Lines,
    filter: LogFilter,
}

/// Lets a reload change what is logged.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// Logs from now on what `log` says. Its format stays what it was.
    pub fn change(&self, log: &Log) {
        let parsed = EnvFilter::builder().parse(&log.filter).map_err(|error| error.to_string());
        let changed = parsed.and_then(|filter| self.0.reload(filter).map_err(|error| error.to_string()));
        if let Err(error) = changed {
            tracing::warn!("the log's filter stays what it was: {error}");
        }
    }
}

/// Begins logging, for the whole process and once. Panics are told to the log from then on.
///
/// # Errors
/// If there is no thread for it, or logging has begun already.
pub fn start(log: &Log) -> io::Result<Logging> {
    let filter = EnvFilter::builder().parse(&log.filter).map_err(io::Error::other)?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = Lines::start(io::stderr())?;
    let layer = fmt::layer().with_writer(lines.clone()).with_ansi(false);
    let layer: Box<dyn Layer<_> + Send + Sync> = match log.format {
        LogFormat::Text => layer.with_target(false).with_ansi(colours()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Journald => layer.event_format(JournalLines).boxed(),
    };
    Registry::default().with(filter).with(layer).try_init().map_err(io::Error::other)?;
    let panics = lines.clone();
    std::panic::set_hook(Box::new(move |panic| panics.panicked(panic)));
    Ok(Logging { lines, filter: LogFilter(handle) })
}

/// Colours are for terminals, and for those who did not decline.
fn colours() -> bool {
    io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none()
}

impl Logging {
    /// What can be changed of it.
    #[must_use]
    pub fn filter(&self) -> LogFilter {
        self.filter.clone()
    }

    /// Says something as it is, after all that was logged: why a process ends.
    pub fn say(&self, text: &str) {
        self.lines.push(format!("{text}\n").into_bytes());
    }

    /// Waits until what was logged is written, with a bound.
    pub fn flush(&self) {
        self.lines.flush();
    }
}

#[derive(Clone, Debug)]
struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Lines {
    fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, messages) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(to, &messages, &lost))?;
        Ok(Self { queue, dropped })
    }

    fn push(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            // Either way the process ends.
            let _ = is_done.recv_timeout(FLUSH_WITHIN);
        }
    }

    /// A panic may be the last that is heard of the process; its message must not hang it either.
    fn panicked(&self, panic: &PanicHookInfo<'_>) {
        let backtrace = std::backtrace::Backtrace::capture();
        let thread = thread::current();
        let name = thread.name().unwrap_or("<unnamed>");
        self.push(format!("thread '{name}' {panic}\n{backtrace}\n").into_bytes());
        self.flush();
    }
}

fn write_lines(mut to: impl Write, messages: &Receiver<Message>, dropped: &AtomicU64) {
    for message in messages {
        match message {
            Message::Line(line) => {
                let lost = dropped.swap(0, Ordering::Relaxed);
                // There is nowhere left to complain to.
                if lost > 0 {
                    let _ = writeln!(
                        to,
                        "{lost} lines are missing here: they came faster than they could be written"
                    );
                }
                let _ = to.write_all(&line);
            }
            Message::Flush(done) => {
                let _ = to.flush();
                let _ = done.send(());
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

/// Each write is a whole line: that is how events come.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn a_log_that_hangs_holds_up_nobody() {
        let (read, write) = io::pipe().unwrap();
        let lines = Lines::start(write).unwrap();
        let line = [b"x".repeat(1000), b"\n".to_vec()].concat();
        // More than the pipe and the queue hold, and nobody reads.
        for _ in 0..LINES_MAX + 1000 {
            (&lines).write_all(&line).unwrap();
        }
        assert!(lines.dropped.load(Ordering::Relaxed) > 0);
        drop(lines);
        let (mut written, mut lost) = (0, 0);
        for text in BufReader::new(read).lines().map(Result::unwrap) {
            // Told where it happened, and more than once if it happened more than once.
            match text.strip_suffix(" lines are missing here: they came faster than they could be written") {
                Some(count) => lost += count.parse::<u64>().unwrap(),
                None => written += 1,
            }
        }
        assert!(lost > 0);
        assert_eq!(written + lost, LINES_MAX as u64 + 1000);
    }
}
