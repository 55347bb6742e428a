//! The durable state: one append-only file, because arming thousands of tickets at once must cost one sync and not
//! thousands.
//!
//! Each line is a batch of records that were synced together: the CRC-32 of the rest in hexadecimal, a space, JSON. A
//! last line that is incomplete or damaged was never acknowledged (a crash hit its write) and is cut off; damage anywhere
//! else is [`Loaded::corrupt`]. The newest record of a resource counts. When the file has grown, it is rewritten as a whole.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sitegate_fence_client::wire::{Name, Receipt, Token};
use sitegate_host::durable::{self, DurableError};

use crate::deadman::{Record, Save};

mod crc;
use crc::crc32;

/// The name of the file in the state directory.
pub const FILE_NAME: &str = "journal";
/// The first line; after it comes the boot of the machine in which the file was begun.
const HEADER: &str = "sitegate-fenced journal 2 ";
/// When the file is longer than this, in bytes, and twice what it was after it was last rewritten, it is rewritten.
const REWRITE_BYTES: u64 = 1024 * 1024;
/// How many receipts are kept beyond the last one of each resource, for `history`.
pub const RECEIPTS_KEPT: usize = 200;

/// The open journal. One failed write ends its use: what is on the disk is unknown from then on.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    rewritten_length: u64,
    records: BTreeMap<Name, Record>,
    receipts: VecDeque<Receipt>,
    /// This boot of the machine.
    boot: String,
    boots: Boots,
}

/// In which boot of the machine each open token was first written down.
pub type Boots = BTreeMap<Name, (Token, String)>;

/// What was found in the state directory.
#[derive(Debug)]
pub struct Loaded {
    /// The newest record of each resource.
    pub records: BTreeMap<Name, Record>,
    /// The last receipts, oldest first.
    pub receipts: VecDeque<Receipt>,
    /// Whether the machine has restarted since is read off this.
    pub boots: Boots,
    /// The boot in which the journal was last begun, if it can be read: since then only that boot has armed anything.
    pub begun: Option<String>,
    /// Whether there was no journal at all.
    pub missing: bool,
    /// Whether an unacknowledged end was cut off.
    pub torn: bool,
    /// What is damaged, if anything is. The records are those that could still be read; the damaged file was kept under
    /// the name given here.
    pub corrupt: Option<String>,
}

/// One record of a batch.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    resource: Name,
    open: Option<Token>,
    /// The boot in which `open` was first written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    receipt: Option<Receipt>,
}

/// Reads the journal in `dir`. A damaged one is kept under another name, for people to look at.
///
/// # Errors
/// If it is there but cannot be read.
pub fn load(dir: &Path) -> Result<Loaded, DurableError> {
    let path = dir.join(FILE_NAME);
    let Some(bytes) = durable::read(&path)? else { return Ok(Loaded::empty()) };
    let mut loaded = parse(&bytes);
    if let Some(what) = loaded.corrupt.take() {
        let kept = path.with_extension("corrupt");
        loaded.corrupt = Some(match durable::write(&kept, &bytes) {
            Ok(()) => format!("{what}; the damaged file is kept as {}", kept.display()),
            Err(error) => format!("{what}; the damaged file is lost: {error}"),
        });
    }
    Ok(loaded)
}

impl Journal {
    /// Begins a journal in `dir` with what was [`load`]ed (and perhaps amended), replacing the file as a whole. `boot` is the
    /// present one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin(dir: &Path, loaded: &Loaded, boot: &str) -> Result<Self, DurableError> {
        let (records, receipts) = (loaded.records.clone(), loaded.receipts.clone());
        let mut boots = loaded.boots.clone();
        for (resource, record) in &records {
            note_boot(&mut boots, resource, record, boot);
        }
        let path = dir.join(FILE_NAME);
        let text = whole(boot, &records, &receipts, &boots);
        durable::write(&path, text.as_bytes())?;
        let file = append_to(&path)?;
        let length = text.len() as u64;
        let boot = boot.to_owned();
        Ok(Self { path, file, length, rewritten_length: length, records, receipts, boot, boots })
    }

    /// One on a disk that is always full.
    #[cfg(test)]
    pub(crate) fn on_full_disk(dir: &Path) -> Self {
        let mut journal = Self::begin(dir, &Loaded::empty(), "this boot").unwrap();
        journal.file = append_to(Path::new("/dev/full")).unwrap();
        journal
    }

    /// One on a disk that takes nothing until the other end is read from.
    #[cfg(test)]
    pub(crate) fn on_hanging_disk(dir: &Path) -> (Self, io::PipeReader) {
        let mut journal = Self::begin(dir, &Loaded::empty(), "this boot").unwrap();
        let (read, write) = io::pipe().unwrap();
        let mut file = File::from(std::os::fd::OwnedFd::from(write));
        rustix::io::ioctl_fionbio(&file, true).unwrap();
        while file.write(&[0; 4096]).is_ok() {}
        rustix::io::ioctl_fionbio(&file, false).unwrap();
        journal.file = file;
        (journal, read)
    }

    /// Adds a batch. On success all of it would survive a power failure.
    ///
    /// # Errors
    /// If writing or syncing fails, which is final.
    pub fn append(&mut self, saves: &[Save]) -> Result<(), DurableError> {
        for save in saves {
            note_boot(&mut self.boots, save.resource(), save.record(), &self.boot);
        }
        let line = batch_line(saves.iter().map(|save| (save.resource(), save.record())), &self.boots);
        self.file.write_all(line.as_bytes()).map_err(DurableError::on("write", &self.path))?;
        self.file.sync_data().map_err(DurableError::on("sync", &self.path))?;
        self.length += line.len() as u64;
        for save in saves {
            self.remember(save.resource(), save.record());
        }
        if self.length > REWRITE_BYTES && self.length > 2 * self.rewritten_length {
            self.rewrite()?;
        }
        Ok(())
    }

    fn remember(&mut self, resource: &Name, record: &Record) {
        let before = self.records.insert(resource.clone(), record.clone()).and_then(|r| r.receipt);
        if let Some(receipt) = &record.receipt
            && before.as_ref() != Some(receipt)
        {
            keep_receipt(&mut self.receipts, receipt);
        }
    }

    fn rewrite(&mut self) -> Result<(), DurableError> {
        let text = whole(&self.boot, &self.records, &self.receipts, &self.boots);
        durable::write(&self.path, text.as_bytes())?;
        self.file = append_to(&self.path)?;
        self.length = text.len() as u64;
        self.rewritten_length = self.length;
        Ok(())
    }
}

impl Loaded {
    /// What a journal that is not there tells.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            records: BTreeMap::new(),
            receipts: VecDeque::new(),
            boots: Boots::new(),
            begun: None,
            missing: true,
            torn: false,
            corrupt: None,
        }
    }
}

fn append_to(path: &Path) -> Result<File, DurableError> {
    File::options().append(true).open(path).map_err(DurableError::on("open", path))
}

/// What the bytes of a journal tell.
#[must_use]
pub fn parse(bytes: &[u8]) -> Loaded {
    let mut loaded = Loaded { missing: false, ..Loaded::empty() };
    let Some((begun, batches)) = parse_header(bytes) else {
        // The header is written with the whole file, by a rename: it is never torn.
        loaded.corrupt = Some("its first line is not that of a journal".to_owned());
        return loaded;
    };
    loaded.begun = Some(begun);
    let lines: Vec<&[u8]> = batches.split_inclusive(|b| *b == b'\n').collect();
    for (index, line) in lines.iter().enumerate() {
        match parse_batch(line) {
            Ok(entries) => {
                for Entry { resource, open, boot, receipt } in entries {
                    let known = loaded.records.get(&resource).and_then(|r| r.receipt.as_ref());
                    if let Some(new) = receipt.as_ref().filter(|new| known != Some(new)) {
                        keep_receipt(&mut loaded.receipts, new);
                    }
                    match open.zip(boot) {
                        Some(known) => loaded.boots.insert(resource.clone(), known),
                        None => loaded.boots.remove(&resource),
                    };
                    loaded.records.insert(resource, Record { open, receipt });
                }
            }
            Err(_) if index + 1 == lines.len() => loaded.torn = true,
            // Line 1 is the header.
            Err(error) => loaded.corrupt = Some(format!("line {} is damaged: {error}", index + 2)),
        }
    }
    loaded
}

/// The boot in the first line, and what comes after that.
fn parse_header(bytes: &[u8]) -> Option<(String, &[u8])> {
    let rest = bytes.strip_prefix(HEADER.as_bytes())?;
    let (boot, batches) = rest.split_at(rest.iter().position(|b| *b == b'\n')?);
    // No checksum covers this line: were its end to rot, the next one would be taken for a part of the boot's name.
    let boot = str::from_utf8(boot).ok()?;
    let is_plain = boot.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == ' ');
    is_plain.then(|| (boot.to_owned(), &batches[1..]))
}

/// The first boot of an open token counts: it was armed then.
fn note_boot(boots: &mut Boots, resource: &Name, record: &Record, boot: &str) {
    match record.open {
        Some(token) if boots.get(resource).is_some_and(|(known, _)| *known == token) => {}
        Some(token) => drop(boots.insert(resource.clone(), (token, boot.to_owned()))),
        None => drop(boots.remove(resource)),
    }
}

fn keep_receipt(receipts: &mut VecDeque<Receipt>, receipt: &Receipt) {
    // A rewritten journal repeats the last receipt of each resource.
    if receipts.contains(receipt) {
        return;
    }
    receipts.push_back(receipt.clone());
    if receipts.len() > RECEIPTS_KEPT {
        receipts.pop_front();
    }
}

fn parse_batch(line: &[u8]) -> io::Result<Vec<Entry>> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let line = line.strip_suffix(b"\n").ok_or_else(|| damaged("it does not end"))?;
    let (sum, json) = line.split_at_checked(9).ok_or_else(|| damaged("it is too short"))?;
    let sum = std::str::from_utf8(sum).ok().and_then(|s| u32::from_str_radix(s.strip_suffix(' ')?, 16).ok());
    if sum != Some(crc32(json)) {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(serde_json::from_slice(json)?)
}

fn batch_line<'a>(records: impl Iterator<Item = (&'a Name, &'a Record)>, boots: &Boots) -> String {
    let entries: Vec<Entry> = records
        .map(|(resource, record)| {
            let Record { open, receipt } = record.clone();
            let boot = open.and_then(|_| boots.get(resource)).map(|(_, boot)| boot.clone());
            Entry { resource: resource.clone(), open, boot, receipt }
        })
        .collect();
    let json = serde_json::to_string(&entries).expect("names, numbers and text can be written as JSON");
    format!("{:08x} {json}\n", crc32(json.as_bytes()))
}

/// A journal with the same content: first the receipts that are history, then the newest records.
fn whole(
    boot: &str,
    records: &BTreeMap<Name, Record>,
    receipts: &VecDeque<Receipt>,
    boots: &Boots,
) -> String {
    let past: Vec<(Name, Record)> = receipts
        .iter()
        .map(|receipt| (receipt.resource.clone(), Record { open: None, receipt: Some(receipt.clone()) }))
        .collect();
    let past = batch_line(past.iter().map(|(name, record)| (name, record)), boots);
    format!("{HEADER}{boot}\n{past}{}", batch_line(records.iter(), boots))
}

#[cfg(test)]
mod tests;
