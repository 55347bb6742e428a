//! The hash chain: how a line ends, and how that is checked.

use std::fmt;

use ring::digest::{Context, SHA256};

use crate::entry::Entry;

/// SHA-256 over a line and the hash before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHash([u8; 32]);

/// What stands between the rest of a line and its hash.
const BEFORE_HASH: &str = ",\"hash\":\"";
/// What stands after it.
const AFTER_HASH: &str = "\"}";
/// What stands between the rest of a file's first line and the hash that the file goes on from.
const BEFORE_LINK: &str = ",\"follows\":\"";
const HEX_DIGITS: usize = 64;

impl ChainHash {
    /// Before the first entry.
    pub const FIRST: Self = Self([0; 32]);

    fn of(before: Self, text: &str) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&before.0);
        context.update(text.as_bytes());
        Self(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    fn parse(hex: &str) -> Option<Self> {
        if hex.len() != HEX_DIGITS || !hex.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..HEX_DIGITS).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a journal is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Broken {
    /// Which line of all that was given, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The first line of a file: what it goes on from.
pub(crate) fn heading(follows: ChainHash) -> String {
    format!("{{\"sitegate-journal\":1{BEFORE_LINK}{follows}{AFTER_HASH}")
}

/// The hash that a file with this first line goes on from.
pub(crate) fn read_heading(line: &str) -> Option<ChainHash> {
    split(line, BEFORE_LINK).filter(|(start, _)| *start == "{\"sitegate-journal\":1").map(|(_, hash)| hash)
}

/// The line of an entry that follows `before`, and its hash.
pub(crate) fn link(before: ChainHash, entry: &Entry) -> (String, ChainHash) {
    let mut value = serde_json::to_value(entry).expect("entries have nothing that JSON cannot hold");
    if let Some(object) = value.as_object_mut() {
        object.remove("hash");
    }
    let text = serde_json::to_string(&value).expect("a value can be written");
    let text = text.strip_suffix('}').expect("an entry is an object");
    let hash = ChainHash::of(before, text);
    (format!("{text}{BEFORE_HASH}{hash}{AFTER_HASH}"), hash)
}

/// The hash at the end of a line, whether it is right or not.
pub(crate) fn hash_of(line: &str) -> Option<ChainHash> {
    split(line, BEFORE_HASH).map(|(_, hash)| hash)
}

fn split<'l>(line: &'l str, before: &str) -> Option<(&'l str, ChainHash)> {
    let line = line.strip_suffix(AFTER_HASH)?;
    let at = line.len().checked_sub(HEX_DIGITS).filter(|at| line.is_char_boundary(*at))?;
    let (start, hex) = line.split_at(at);
    Some((start.strip_suffix(before)?, ChainHash::parse(hex)?))
}

/// Checks the lines of a whole journal, its files one after the other; gives the number of entries.
///
/// # Errors
/// The first line that does not follow from the one before it.
pub fn verify<'l>(lines: impl IntoIterator<Item = &'l str>) -> Result<u64, Broken> {
    let (mut chain, mut count) = (Chain::default(), 0);
    for (index, line) in lines.into_iter().enumerate() {
        let entry = chain.take(line).map_err(|why| Broken { line: index + 1, why })?;
        count += u64::from(entry.is_some());
    }
    Ok(count)
}

/// A chain that is followed line by line.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    before: Option<ChainHash>,
    seq: Option<u64>,
}

impl Chain {
    /// The entry of the next line as it lies on the disk; `None` for the first line of a file.
    ///
    /// # Errors
    /// Why it does not follow from the line before it.
    pub fn take(&mut self, line: &str) -> Result<Option<Entry>, &'static str> {
        if let Some(follows) = read_heading(line) {
            if self.before.is_some_and(|before| before != follows) {
                return Err("this file does not follow the one before it");
            }
            self.before = Some(follows);
            return Ok(None);
        }
        let before = self.before.ok_or("no heading before the first entry")?;
        let (start, hash) = split(line, BEFORE_HASH).ok_or("not an entry")?;
        if ChainHash::of(before, start) != hash {
            return Err("the entry or the one before it was changed");
        }
        let entry: Entry = serde_json::from_str(line).map_err(|_| "not an entry")?;
        if self.seq.is_some_and(|seq| entry.seq != seq + 1) {
            return Err("entries were left out");
        }
        (self.before, self.seq) = (Some(hash), Some(entry.seq));
        Ok(Some(entry))
    }

    /// The same for an entry as the API gives it: without the lines of files, and perhaps with others left out between.
    /// Whether it could be checked: only what follows directly on the entry before it can.
    ///
    /// # Errors
    /// Why it does not follow from that.
    pub fn take_exported(&mut self, entry: &Entry) -> Result<bool, &'static str> {
        let hash = ChainHash::parse(&entry.hash).ok_or("not an entry")?;
        let follows = self.before.filter(|_| self.seq.is_some_and(|seq| entry.seq == seq + 1));
        if self.seq.is_some_and(|seq| entry.seq <= seq) {
            return Err("entries are out of order");
        }
        if follows.is_some_and(|before| link(before, entry).1 != hash) {
            return Err("the entry or the one before it was changed");
        }
        (self.before, self.seq) = (Some(hash), Some(entry.seq));
        Ok(follows.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Vec<String> {
        let mut lines = vec![heading(ChainHash::FIRST)];
        let mut before = ChainHash::FIRST;
        for seq in 1..=5 {
            let entry = Entry {
                seq,
                at: "2026-03-01T12:00:00Z".into(),
                boot_ns: seq * 1000,
                raw_ns: seq * 1000,
                kind: "held".into(),
                ticket: Some("db".into()),
                member: None,
                text: format!("holds db, \"quoted\",\"hash\":\"{}\"", "0".repeat(64)),
                detail: serde_json::json!({ "token": seq }),
                hash: String::new(),
            };
            let (line, hash) = link(before, &entry);
            lines.push(line);
            before = hash;
            if seq == 3 {
                lines.push(heading(before));
            }
        }
        lines
    }

    fn check(lines: &[String]) -> Result<u64, Broken> {
        verify(lines.iter().map(String::as_str))
    }

    #[test]
    fn a_whole_journal_holds() {
        assert_eq!(check(&journal()), Ok(5));
        let entry: Entry = serde_json::from_str(&journal()[1]).unwrap();
        assert_eq!((entry.seq, entry.hash.len()), (1, 64));
    }

    #[test]
    fn what_the_api_gives_is_checked_where_it_follows() {
        let entries: Vec<Entry> =
            journal().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let follow = |entries: &[Entry]| {
            let mut chain = Chain::default();
            entries.iter().map(|entry| chain.take_exported(entry)).collect::<Result<Vec<bool>, _>>()
        };
        assert_eq!(follow(&entries), Ok(vec![false, true, true, true, true]));
        assert_eq!(follow(&[entries[0].clone(), entries[2].clone()]), Ok(vec![false, false]));
        let mut changed = entries.clone();
        changed[2].text.push('!');
        assert!(follow(&changed).is_err());
        changed.swap(0, 1);
        assert!(follow(&changed).is_err());
    }

    #[test]
    fn the_oldest_file_may_be_gone() {
        assert_eq!(check(&journal()[4..]), Ok(2));
    }

    #[test]
    fn every_change_shows() {
        let whole = journal();
        for line in 0..whole.len() {
            let mut without = whole.clone();
            without.remove(line);
            // Without its end a journal is a shorter one, and a heading in the middle says nothing new.
            let harmless = line == whole.len() - 1 || (line > 0 && read_heading(&whole[line]).is_some());
            assert_eq!(check(&without).is_ok(), harmless, "without line {line}");
            for byte in 0..whole[line].len() {
                let mut changed = whole.clone();
                let mut bytes = changed[line].clone().into_bytes();
                bytes[byte] ^= 1;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                changed[line] = text;
                // The case of a hexadecimal digit is no change.
                assert!(check(&changed).is_err(), "byte {byte} of line {line}: {}", changed[line]);
            }
        }
        let mut swapped = whole.clone();
        swapped.swap(1, 2);
        assert!(check(&swapped).is_err());
    }
}
