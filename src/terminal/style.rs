//! Colour, where there is a terminal and nobody has said no; see <https://no-color.org>. What it says is always said in
//! words too.

use std::io::IsTerminal;

/// Whether to emphasise what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// For standard output.
    #[must_use]
    pub(crate) fn of_stdout() -> Self {
        Self { colour: std::io::stdout().is_terminal() && wanted() }
    }

    /// None.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { colour: false }
    }

    /// What the eye should find first.
    #[must_use]
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrapped("1", text)
    }

    /// What is as it should be.
    #[must_use]
    pub(crate) fn good(self, text: &str) -> String {
        self.wrapped("32", text)
    }

    /// What is wrong.
    #[must_use]
    pub(crate) fn bad(self, text: &str) -> String {
        self.wrapped("31", text)
    }

    fn wrapped(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
