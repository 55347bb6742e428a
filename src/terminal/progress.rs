//! What a command waits for, on standard error: one line that is rewritten on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// One wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    terminal: bool,
    began: Instant,
    text: String,
    /// Whether `text` was said, but for its numbers. Of no account on a terminal.
    said: bool,
    drawn: bool,
}

/// What is done by then says nothing but its result.
const QUIET: Duration = Duration::from_millis(500);

/// Back to the first column; erase the line. See console_codes(4).
const ERASE_LINE: &str = "\r\x1b[2K";
/// A line that is too long is cut rather than wrapped: only one can be erased.
const NO_WRAP: (&str, &str) = ("\x1b[?7l", "\x1b[?7h");

impl Waiting {
    /// Begins now, with nothing shown.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            began: Instant::now(),
            text: String::new(),
            said: false,
            drawn: false,
        }
    }

    /// Shows what it waits for now.
    pub(crate) fn waits_for(&mut self, text: &str) {
        self.said &= same_but_for_numbers(&self.text, text);
        text.clone_into(&mut self.text);
        self.tick();
    }

    /// Shows how long it has waited; call it about once a second.
    pub(crate) fn tick(&mut self) {
        if self.text.is_empty() || self.began.elapsed() < QUIET {
            return;
        }
        if self.terminal {
            self.draw();
        } else if !self.said {
            say(&format!("{}\n", self.text));
            self.said = true;
        }
    }

    /// Takes the line away, for what comes after it.
    pub(crate) fn clear(&mut self) {
        if self.drawn {
            say(ERASE_LINE);
            self.drawn = false;
        }
    }

    fn draw(&mut self) {
        let seconds = self.began.elapsed().as_secs();
        let (before, after) = NO_WRAP;
        say(&format!("{ERASE_LINE}{before}[{seconds} s] {}{after}", self.text));
        self.drawn = true;
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether two texts differ at most in how long something takes: a log needs no countdown.
fn same_but_for_numbers(a: &str, b: &str) -> bool {
    let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    words(a) == words(b)
}

/// Talk that cannot be heard is no reason to stop.
fn say(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_countdown_is_one_text() {
        assert!(same_but_for_numbers("the guard ends in 4.6 s", "the guard ends in 12.0 s"));
        assert!(!same_but_for_numbers("the guard of paris ends in 4 s", "the guard of lyon ends in 4 s"));
    }
}
