//! The log: lines for people, JSON, or journald.

use std::io;

use sitegate_host::journald::JournalLines;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, reload};

use crate::config::{Log, LogFormat};

/// Lets a reload change what is logged.
#[derive(Clone, Debug)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

/// Begins to log as `log` says.
///
/// # Errors
/// If something logs in this process already.
pub fn start(log: &Log) -> io::Result<LogFilter> {
    let (filter, handle) = reload::Layer::new(filter(log)?);
    let layer: Box<dyn Layer<_> + Send + Sync> = match log.format {
        LogFormat::Text => {
            let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
            // Colours are for terminals, and for those who did not decline.
            let colours =
                io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            layer.with_ansi(colours).boxed()
        }
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().with_writer(io::stderr).json().flatten_event(true).boxed()
        }
        LogFormat::Journald => tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(false)
            .event_format(JournalLines)
            .boxed(),
    };
    let started = tracing_subscriber::registry().with(filter).with(layer).try_init();
    started.map_err(io::Error::other)?;
    Ok(LogFilter(handle))
}

impl LogFilter {
    /// Logs from now on what `log` says. Its format stays what it was.
    pub fn change(&self, log: &Log) {
        let changed = filter(log).and_then(|filter| self.0.reload(filter).map_err(io::Error::other));
        if let Err(error) = changed {
            tracing::warn!(%error, "the log's filter stays what it was");
        }
    }
}

fn filter(log: &Log) -> io::Result<EnvFilter> {
    EnvFilter::builder().parse(&log.filter).map_err(io::Error::other)
}
