//! Configuration errors that teach: file, line and column, the line itself with the place marked, the cause, and the
//! fix as a `hint:`.
//!
//! How a daemon loads a file:
//!
//! 1. [`Source::read`] takes the file in.
//! 2. [`Source::parse`] turns it into the daemon's own serde types. Values that have rules of their own ([`Period`], names,
//!    addresses) check them while they are parsed, so their errors come with the right place. Wrap in [`Spanned`] whatever a
//!    later check may have to point at. Types say `#[serde(deny_unknown_fields)]`.
//! 3. Checks across values report to [`Problems`]; [`Problems::finish`] gives the value if there were none.
//!
//! Every step reports all the errors it can find, not only the first.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};

mod nearest;
mod period;
mod source;

pub use nearest::nearest;
pub use period::{PERIOD_MAX, Period};
pub use source::{FILE_BYTES_MAX, Source};
pub use toml::Spanned;

/// How many diagnostics one file gets before the rest is left out. More would not be read.
pub const DIAGNOSTICS_MAX: usize = 20;

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    file: PathBuf,
    excerpt: Option<Excerpt>,
    cause: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
}

impl Diagnostic {
    /// About the file as a whole: it is missing, say.
    pub fn of_file(file: impl Into<PathBuf>, cause: impl Into<String>) -> Self {
        Self { severity: Severity::Error, file: file.into(), excerpt: None, cause: cause.into(), hint: None }
    }

    /// About the bytes `span` of `source`.
    pub fn at(source: &Source, span: Range<usize>, cause: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: source.file().to_path_buf(),
            excerpt: Some(Excerpt::cut(source.text(), span)),
            cause: cause.into(),
            hint: None,
        }
    }

    /// Adds what to do about it: an imperative sentence without a full stop.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Makes it a warning: what it is about may be meant.
    #[must_use]
    pub fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// Leaves the line's text out, which holds a secret; its number stays.
    #[must_use]
    pub fn without_text(mut self) -> Self {
        if let Some(excerpt) = &mut self.excerpt {
            excerpt.text = None;
        }
        self
    }

    /// The file it is about.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Line and column, both from 1, the column in characters; none if it is about the whole file.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        self.excerpt.as_ref().map(|excerpt| (excerpt.line, excerpt.column))
    }

    /// What is wrong, one sentence.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What to do about it, where that is known.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Diagnostic {
    /// Several lines of plain text, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.file.display())?;
        if let Some((line, column)) = self.line_column() {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.cause)?;
        if let Some(excerpt) = self.excerpt.as_ref().filter(|excerpt| excerpt.text.is_some()) {
            write!(f, "\n{excerpt}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// A line of the file with the place in it that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    line: usize,
    column: usize,
    /// None if it is not to be shown.
    text: Option<String>,
    /// How many characters of the line are meant, at least 1.
    width: usize,
}

impl Excerpt {
    fn cut(text: &str, span: Range<usize>) -> Self {
        let start = floor_char_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let end = floor_char_boundary(text, span.end).clamp(start, line_end);
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            // Control characters would move the caret, or the terminal.
            text: Some(text[line_start..line_end].replace(char::is_control, " ").trim_end().to_owned()),
            width: text[start..end].chars().count().max(1),
        }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let indent = " ".repeat(self.column - 1);
        let carets = "^".repeat(self.width);
        let text = self.text.as_deref().unwrap_or_default();
        write!(f, "{gutter} |\n{number} | {text}\n{gutter} | {indent}{carets}")
    }
}

fn floor_char_boundary(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// Everything that is wrong with a configuration: at least one [`Diagnostic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(Vec<Diagnostic>);

impl ConfigError {
    /// The diagnostics, file by file, from the top of each to its end.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0
    }
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Collects diagnostics while a configuration is checked.
#[derive(Debug, Default)]
#[must_use = "problems that are dropped are never shown"]
pub struct Problems(Vec<Diagnostic>);

impl Problems {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes one.
    pub fn add(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Notes all of `error`.
    pub fn append(&mut self, error: ConfigError) {
        self.0.extend(error.0);
    }

    /// Passes a success on and notes an error.
    pub fn take<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.append(error)).ok()
    }

    /// Whether nothing was noted yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value` if nothing was noted, else everything that was. A check that noted a problem may pass `None`.
    ///
    /// # Panics
    /// If `value` is `None` although nothing was noted: a value was lost without a word.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigError> {
        if self.0.is_empty() {
            return Ok(value.expect("a configuration without problems has a value"));
        }
        self.0.sort_by(|a, b| {
            (a.file(), a.line_column(), a.cause()).cmp(&(b.file(), b.line_column(), b.cause()))
        });
        self.0.dedup();
        self.0.truncate(DIAGNOSTICS_MAX);
        Err(ConfigError(self.0))
    }
}

/// Why a single value is no good: the error type of `FromStr` and `TryFrom` of configuration values.
///
/// Through serde it reaches [`Source::parse`] as text and becomes a [`Diagnostic`] with its hint again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    cause: String,
    hint: Option<String>,
}

/// Stands between cause and hint where only text can pass.
const HINT_MARK: &str = "\nhint: ";

impl Rejected {
    /// With a cause, which should quote the value, and a hint how to write it right.
    pub fn new(cause: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { cause: cause.into(), hint: Some(hint.into()) }
    }

    /// What is wrong, one sentence.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What to write instead.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// This, said of the bytes `span` of `source`.
    pub fn at(self, source: &Source, span: Range<usize>) -> Diagnostic {
        Diagnostic { hint: self.hint, ..Diagnostic::at(source, span, self.cause) }
    }

    /// This, said of a whole file.
    pub fn of_file(self, file: impl Into<PathBuf>) -> Diagnostic {
        Diagnostic { hint: self.hint, ..Diagnostic::of_file(file, self.cause) }
    }

    fn from_text(text: &str) -> Self {
        match text.split_once(HINT_MARK) {
            Some((cause, hint)) => Self::new(cause, hint),
            None => Self { cause: text.to_owned(), hint: None },
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        match &self.hint {
            Some(hint) => write!(f, "{HINT_MARK}{hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejected {}

/// The body of `Deserialize` for a value that is written as text and has rules of its own.
///
/// It checks where the text is, so that also in a list the diagnostic points at the very value; serde's `try_from` loses
/// the place there.
pub fn deserialize_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = Rejected>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_str(TextVisitor(PhantomData))
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err = Rejected>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_characters_not_bytes() {
        let source = Source::new("f.toml", "a = 1\nnäme = \"é\" # x\n");
        let start = source.text().find("\"é").unwrap();
        let shown = Diagnostic::at(&source, start..start + 4, "no").hint("yes").to_string();
        assert_eq!(shown, "error: f.toml:2:8: no\n  |\n2 | näme = \"é\" # x\n  |        ^^^\nhint: yes");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let source = Source::new("f.toml", "a = 1\npassword = \"hunter2\"\n");
        let shown = Diagnostic::at(&source, 6..14, "no").hint("yes").without_text().to_string();
        assert_eq!(shown, "error: f.toml:2:1: no\nhint: yes");
        let shown = Diagnostic::of_file("f.toml", "perhaps").warning().to_string();
        assert_eq!(shown, "warning: f.toml: perhaps");
    }

    #[test]
    fn survives_spans_beyond_the_text() {
        let source = Source::new("f.toml", "");
        assert_eq!(
            Diagnostic::at(&source, 7..9, "no").to_string(),
            "error: f.toml:1:1: no\n  |\n1 | \n  | ^"
        );
    }

    #[test]
    fn sorts_and_bounds() {
        let source = Source::new("f.toml", "\n".repeat(100));
        let mut problems = Problems::new();
        for at in (0..100).rev() {
            problems.add(Diagnostic::at(&source, at..at, "no"));
        }
        let error = problems.finish(Some(())).unwrap_err();
        assert_eq!(error.diagnostics().len(), DIAGNOSTICS_MAX);
        assert_eq!(error.diagnostics()[0].line_column(), Some((1, 1)));
    }
}
