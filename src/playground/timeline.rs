//! What happens, as it happens, for people.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use sitegate_host::clock::boot_ns;

/// Where lines go. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    began_ns: u64,
    out: Arc<Mutex<Out>>,
}

#[derive(Debug)]
struct Out {
    to: To,
    /// How many lines at the end are rewritten with each change.
    block: usize,
}

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// Standard output.
    Data,
    /// Standard error, where standard output has JSON.
    Talk,
}

impl Timeline {
    /// Begins now.
    pub(super) fn new(to: To) -> Self {
        Self { began_ns: boot_ns(), out: Arc::new(Mutex::new(Out { to, block: 0 })) }
    }

    /// Notes what happens now.
    pub(super) fn note(&self, text: &str) {
        self.note_at(boot_ns(), text);
    }

    /// Notes what happened at a moment on `CLOCK_BOOTTIME`.
    pub(super) fn note_at(&self, at_ns: u64, text: &str) {
        let ms = at_ns.saturating_sub(self.began_ns) / 1_000_000;
        self.say(&format!("{:>4}.{:03} s  {text}\n", ms / 1000, ms % 1000));
    }

    /// Says something that has no time.
    pub(super) fn say(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let erase = out.erase();
        out.write(&format!("{erase}{text}"));
        out.block = 0;
    }

    /// Puts lines at the end that the next change rewrites. For terminals.
    pub(super) fn show_block(&self, lines: &[String]) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let erase = out.erase();
        // Without wrapping, so that as many lines can be erased as were written.
        let text: String = lines.iter().map(|line| format!("\x1b[?7l{line}\x1b[?7h\n")).collect();
        out.write(&format!("{erase}{text}"));
        out.block = lines.len();
    }
}

impl Out {
    /// Up to the first line of the block, and erase from there; see console_codes(4).
    fn erase(&self) -> String {
        if self.block == 0 { String::new() } else { format!("\x1b[{}A\r\x1b[J", self.block) }
    }

    /// Talk that cannot be heard is no reason to stop.
    fn write(&self, text: &str) {
        let _ = match self.to {
            To::Data => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            To::Talk => io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}
