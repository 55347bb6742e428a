//! Journals as they were given: found, read, put together by member, and each entry checked against the one before it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sitegate_journal::{Chain, Content, Entry, History};

/// The largest file that is read, in bytes: a daemon keeps 32 MiB, exports may have been kept for years.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// What the files of a journal's directory end in.
const SUFFIX: &str = "jsonl";

/// One member's journal.
#[derive(Clone, Debug)]
pub struct Journal {
    /// Whose.
    pub member: String,
    /// Where it came from.
    pub source: String,
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// What can be said for them.
    pub condition: Condition,
}

/// What can be said for a journal itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Every entry from the first on.
    Whole,
    /// Every entry, but the oldest are gone.
    Rotated,
    /// Not every entry could be checked: some were left out by whoever exported it.
    Partial,
    /// What follows does not follow. Entries from there on are not used.
    Broken(String),
}

/// Why what was given cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The machine's fault, or a path that there is not.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory without a journal.
    #[error("{} has no journal: no file in it ends in .{SUFFIX}", .0.display())]
    NoJournal(PathBuf),
    /// A file beyond the bound.
    #[error("{} is larger than {} MiB", .0.display(), FILE_BYTES_MAX >> 20)]
    TooLarge(PathBuf),
    /// A file with a line, counted from 1, that no journal has.
    #[error("{}:{}: this is no line of a journal", .0.display(), .1)]
    NotALine(PathBuf, usize),
}

impl SourceError {
    fn unreadable(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Unreadable { path: path.to_path_buf(), source }
    }
}

impl Journal {
    /// Whether every entry from the first that there is to the last is there.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.condition, Condition::Whole | Condition::Rotated)
    }
}

/// A file, read.
#[derive(Debug)]
struct Piece {
    member: String,
    source: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Line {
    /// As it lies on the disk.
    Stored(String),
    /// As the API gives it.
    Exported(Box<Entry>),
}

/// Reads what was given, each argument `PATH` or `NAME=PATH`.
///
/// # Errors
/// It cannot be read, or is no journal.
pub fn read(arguments: &[String]) -> Result<Vec<Journal>, SourceError> {
    let mut members: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
    for argument in arguments {
        for piece in pieces(argument)? {
            members.entry(piece.member.clone()).or_default().push(piece);
        }
    }
    Ok(members.into_iter().map(|(member, pieces)| put_together(member, pieces)).collect())
}

fn pieces(argument: &str) -> Result<Vec<Piece>, SourceError> {
    // A path that there is comes first, whatever is in its name.
    let (name, path) = match argument.split_once('=') {
        Some((name, path)) if !Path::new(argument).exists() => (Some(name), path),
        _ => (None, argument),
    };
    let path = Path::new(path);
    let files = if path.is_dir() { files_of(path)? } else { vec![path.to_path_buf()] };
    let mut pieces: Vec<Piece> = Vec::new();
    for file in &files {
        let lines = lines_of(file)?;
        let found = name.map(str::to_owned).or_else(|| lines.iter().find_map(named_by));
        let member = found.or_else(|| pieces.last().map(|piece| piece.member.clone()));
        let member = member.unwrap_or_else(|| name_of(file));
        pieces.push(Piece { member, source: argument.to_owned(), lines });
    }
    // The oldest file of a directory may be from before the first start that says whose it is.
    if let Some(member) = pieces.last().map(|piece| piece.member.clone()).filter(|_| path.is_dir()) {
        pieces.iter_mut().for_each(|piece| piece.member.clone_from(&member));
    }
    Ok(pieces)
}

fn files_of(directory: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let unreadable = SourceError::unreadable(directory);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(&unreadable)? {
        let path = entry.map_err(&unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == SUFFIX) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(SourceError::NoJournal(directory.to_path_buf()));
    }
    Ok(files)
}

fn lines_of(file: &Path) -> Result<Vec<Line>, SourceError> {
    let unreadable = SourceError::unreadable(file);
    if fs::metadata(file).map_err(&unreadable)?.len() > FILE_BYTES_MAX {
        return Err(SourceError::TooLarge(file.to_path_buf()));
    }
    let bytes = fs::read(file).map_err(&unreadable)?;
    parse(&bytes).map_err(|line| SourceError::NotALine(file.to_path_buf(), line))
}

/// The lines, or the number of the first that is none.
fn parse(bytes: &[u8]) -> Result<Vec<Line>, usize> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        // The last may have been cut short with the power.
        let whole = text.ends_with('\n') || index + 1 < text.lines().count();
        if line.trim().is_empty() {
            continue;
        } else if line.starts_with("{\"sitegate-journal\"") || is_stored(line) {
            lines.push(Line::Stored(line.to_owned()));
        } else if let Ok(entry) = serde_json::from_str::<Entry>(line) {
            lines.push(Line::Exported(Box::new(entry)));
        } else if let Ok(history) = serde_json::from_str::<History>(line) {
            lines.extend(history.entries.into_iter().map(|entry| Line::Exported(Box::new(entry))));
        } else if whole {
            return Err(index + 1);
        }
    }
    if lines.is_empty() { Err(1) } else { Ok(lines) }
}

/// Stored lines have their fields in the order of their names, exported ones begin with the number.
fn is_stored(line: &str) -> bool {
    line.starts_with("{\"at\"") && line.ends_with("\"}")
}

fn entry_of(line: &Line) -> Option<Entry> {
    match line {
        Line::Stored(line) => serde_json::from_str(line).ok(),
        Line::Exported(entry) => Some((**entry).clone()),
    }
}

fn named_by(line: &Line) -> Option<String> {
    match entry_of(line)?.content() {
        Ok(Content::Started(start)) => start.member,
        _ => None,
    }
}

/// For journals that do not say whose they are: the file's name, or that of the directory around `journal`.
fn name_of(file: &Path) -> String {
    let numbered = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("unnamed");
    let above = file.ancestors().skip(1).filter_map(|path| path.file_name()?.to_str());
    let mut names = std::iter::once(stem).chain(above);
    names.find(|name| *name != "journal" && !numbered(name)).unwrap_or(stem).to_owned()
}

fn put_together(member: String, mut pieces: Vec<Piece>) -> Journal {
    let first = |piece: &Piece| piece.lines.iter().find_map(|line| entry_of(line).map(|entry| entry.seq));
    pieces.sort_by_key(first);
    let mut sources: Vec<&str> = pieces.iter().map(|piece| piece.source.as_str()).collect();
    sources.dedup();
    let source = sources.join(", ");
    let (mut chain, mut entries, mut unchecked) = (Chain::default(), Vec::new(), 0);
    for line in pieces.into_iter().flat_map(|piece| piece.lines) {
        let taken = match line {
            Line::Stored(line) => chain.take(&line),
            Line::Exported(entry) => chain.take_exported(&entry).map(|checked| {
                unchecked += u32::from(!checked);
                Some(*entry)
            }),
        };
        match taken {
            Ok(entry) => entries.extend(entry),
            Err(why) => {
                let after = entries.last().map_or(0, |entry: &Entry| entry.seq);
                let condition = Condition::Broken(format!("after entry {after}: {why}"));
                return Journal { member, source, entries, condition };
            }
        }
    }
    let condition = match entries.first() {
        // The first of an export has nothing before it that it could be checked against.
        _ if unchecked > 1 => Condition::Partial,
        Some(entry) if entry.seq > 1 => Condition::Rotated,
        _ => Condition::Whole,
    };
    Journal { member, source, entries, condition }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_journal_is_stands_in_its_path_if_nowhere_else() {
        assert_eq!(name_of(Path::new("/srv/paris/journal/000000000001.jsonl")), "paris");
        assert_eq!(name_of(Path::new("lyon.jsonl")), "lyon");
        assert_eq!(name_of(Path::new("000000000001.jsonl")), "000000000001");
    }

    #[test]
    fn what_is_no_journal_is_said_with_its_line() {
        assert_eq!(parse(b"").unwrap_err(), 1);
        assert_eq!(parse(b"{\"sitegate-journal\":1}\nnonsense\n").unwrap_err(), 2);
        assert_eq!(parse(b"{\"sitegate-journal\":1}\n{\"at\":\"20").unwrap().len(), 1);
    }
}
