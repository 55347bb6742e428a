//! The journal's files: one is written, a bounded number of older ones is kept.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sitegate_host::durable::{DurableError, sync_parent};

use crate::chain::{ChainHash, hash_of, heading, link, read_heading};
use crate::entry::{Draft, Entry, Moment};

/// How long a file grows before the next is begun, in bytes.
pub const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// How many files are kept: with the size of each, some hundred thousand entries, or years of an orderly formation.
pub const FILES_MAX: usize = 16;
/// The longest line that is read; ours are far shorter.
const LINE_BYTES_MAX: u64 = 256 * 1024;

const SUFFIX: &str = ".jsonl";

/// The files, at the end of which is written.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    path: PathBuf,
    file: File,
    length: u64,
    seq: u64,
    last: ChainHash,
}

impl Files {
    /// Opens what is there and goes on after its last whole line.
    pub(crate) fn open(directory: &Path) -> Result<Self, DurableError> {
        fs::create_dir_all(directory).map_err(DurableError::on("create the directory", directory))?;
        while let Some(newest) = list(directory)?.pop() {
            let open = File::options().read(true).write(true).open(&newest);
            let mut file = open.map_err(DurableError::on("open", &newest))?;
            let next = first_seq(&newest).unwrap_or(1);
            let end = find_end(&mut file, next).map_err(DurableError::on("read", &newest))?;
            let length = file.metadata().map_err(DurableError::on("read", &newest))?.len();
            match end {
                Some(end) => return Self::go_on(directory, newest, file, &end),
                // Cut short before it was begun.
                None if length == 0 => {
                    fs::remove_file(&newest).map_err(DurableError::on("remove", &newest))?;
                }
                // Not ours: it stays, and the chain begins anew.
                None => return Self::begin(directory, next, ChainHash::FIRST),
            }
        }
        Self::begin(directory, 0, ChainHash::FIRST)
    }

    fn go_on(directory: &Path, path: PathBuf, mut file: File, end: &End) -> Result<Self, DurableError> {
        let cut = file.set_len(end.length).and_then(|()| file.seek(SeekFrom::Start(end.length)));
        cut.map_err(DurableError::on("write", &path))?;
        let directory = directory.to_path_buf();
        Ok(Self { directory, path, file, length: end.length, seq: end.seq, last: end.hash })
    }

    /// A new file for the entries after `seq`.
    fn begin(directory: &Path, seq: u64, last: ChainHash) -> Result<Self, DurableError> {
        let path = directory.join(format!("{:012}{SUFFIX}", seq + 1));
        let mut file = File::create(&path).map_err(DurableError::on("create", &path))?;
        let line = heading(last) + "\n";
        file.write_all(line.as_bytes()).map_err(DurableError::on("write", &path))?;
        sync_parent(&path)?;
        let length = line.len() as u64;
        Ok(Self { directory: directory.to_path_buf(), path, file, length, seq, last })
    }

    pub(crate) fn append(&mut self, draft: Draft, moment: Moment) -> Result<(), DurableError> {
        if self.length >= FILE_BYTES_MAX {
            self.sync()?;
            *self = Self::begin(&self.directory, self.seq, self.last)?;
            self.forget_oldest()?;
        }
        let entry = Entry::of(draft, self.seq + 1, moment);
        let (mut line, hash) = link(self.last, &entry);
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(DurableError::on("write", &self.path))?;
        (self.length, self.seq, self.last) = (self.length + line.len() as u64, entry.seq, hash);
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), DurableError> {
        self.file.sync_data().map_err(DurableError::on("sync", &self.path))
    }

    fn forget_oldest(&self) -> Result<(), DurableError> {
        let files = list(&self.directory)?;
        for oldest in &files[..files.len().saturating_sub(FILES_MAX)] {
            fs::remove_file(oldest).map_err(DurableError::on("remove", oldest))?;
        }
        Ok(())
    }
}

/// Where a file's last whole line ends.
struct End {
    length: u64,
    seq: u64,
    hash: ChainHash,
}

/// The end of a file whose first entry is `next`; `None` if there is nothing of ours in it.
fn find_end(file: &mut File, next: u64) -> std::io::Result<Option<End>> {
    let (mut end, mut length) = (None, 0);
    let mut reader = BufReader::new(file);
    while let Some((line, bytes)) = read_line(&mut reader)? {
        length += bytes;
        if let Some(hash) = read_heading(&line) {
            end = Some(End { length, seq: next.saturating_sub(1), hash });
        } else if let (Ok(entry), Some(hash)) = (serde_json::from_str::<Entry>(&line), hash_of(&line)) {
            end = Some(End { length, seq: entry.seq, hash });
        }
    }
    Ok(end)
}

/// A whole line without its newline, and how many bytes it took; `None` at the end or where a line was cut short.
fn read_line(reader: &mut impl BufRead) -> std::io::Result<Option<(String, u64)>> {
    let mut line = Vec::new();
    let bytes = reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? as u64;
    if line.pop() != Some(b'\n') {
        return Ok(None);
    }
    Ok(Some((String::from_utf8_lossy(&line).into_owned(), bytes)))
}

/// The journal's files, oldest first.
fn list(directory: &Path) -> Result<Vec<PathBuf>, DurableError> {
    let entries = fs::read_dir(directory).map_err(DurableError::on("read", directory))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(DurableError::on("read", directory))?.path();
        if first_seq(&path).is_some() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn first_seq(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

/// The newest `limit` entries, oldest first: of one ticket or of all.
///
/// # Errors
/// If a file cannot be read.
pub fn read_newest(directory: &Path, ticket: Option<&str>, limit: usize) -> Result<Vec<Entry>, DurableError> {
    let mut newest: VecDeque<Entry> = VecDeque::new();
    for path in list(directory)?.iter().rev() {
        if newest.len() >= limit {
            break;
        }
        let mut of_file: VecDeque<Entry> = VecDeque::new();
        for_each_line(path, |line| {
            let entry = serde_json::from_str::<Entry>(&line).ok();
            let wanted = |entry: &Entry| ticket.is_none_or(|ticket| entry.ticket.as_deref() == Some(ticket));
            if let Some(entry) = entry.filter(wanted) {
                of_file.push_back(entry);
                if of_file.len() > limit - newest.len() {
                    of_file.pop_front();
                }
            }
            true
        })?;
        of_file.append(&mut newest);
        newest = of_file;
    }
    Ok(newest.into())
}

/// Gives the whole journal to `take`, line by line as it lies on the disk, for as long as that returns true: at most
/// [`FILES_MAX`] files of about [`FILE_BYTES_MAX`].
///
/// # Errors
/// If a file cannot be read.
pub fn read_all(directory: &Path, mut take: impl FnMut(String) -> bool) -> Result<(), DurableError> {
    for path in list(directory)? {
        let mut wanted = true;
        for_each_line(&path, |line| {
            wanted = take(line);
            wanted
        })?;
        if !wanted {
            break;
        }
    }
    Ok(())
}

fn for_each_line(path: &Path, mut take: impl FnMut(String) -> bool) -> Result<(), DurableError> {
    let file = match File::open(path) {
        Ok(file) => file,
        // The oldest may go while this reads.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DurableError::on("open", path)(error)),
    };
    let mut reader = BufReader::new(file);
    while let Some((line, _)) = read_line(&mut reader).map_err(DurableError::on("read", path))? {
        if !take(line) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sitegate_protocol::Now;

    use super::*;
    use crate::chain::verify;
    use crate::content::{Content, Nothing};

    fn draft(ticket: &str, text: String) -> Draft {
        Draft::about(ticket, text, Content::Flapping(Nothing {}))
    }

    fn whole(directory: &Path) -> String {
        let mut text = String::new();
        read_all(directory, |line| {
            text += &line;
            text += "\n";
            true
        })
        .unwrap();
        text
    }

    fn fill(files: &mut Files, count: u64, padding: usize) {
        for i in 0..count {
            let ticket = if i % 2 == 0 { "even" } else { "odd" };
            files.append(draft(ticket, "x".repeat(padding)), Moment::new(Now::default())).unwrap();
        }
    }

    #[test]
    fn goes_on_where_it_ended_even_if_cut_short() {
        let directory = tempfile::tempdir().unwrap();
        fill(&mut Files::open(directory.path()).unwrap(), 3, 10);
        let path = list(directory.path()).unwrap().pop().unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"seq\":4,\"at\":\"20").unwrap();
        fill(&mut Files::open(directory.path()).unwrap(), 2, 10);
        let text = whole(directory.path());
        assert_eq!(verify(text.lines()), Ok(5));
    }

    #[test]
    fn is_bounded_and_still_holds_together() {
        let directory = tempfile::tempdir().unwrap();
        let padding = 200_000;
        let per_file = FILE_BYTES_MAX / padding as u64 + 1;
        let mut files = Files::open(directory.path()).unwrap();
        let count = per_file * (FILES_MAX as u64 + 3);
        fill(&mut files, count, padding);
        assert_eq!(list(directory.path()).unwrap().len(), FILES_MAX);
        let text = whole(directory.path());
        assert!(verify(text.lines()).unwrap() < count);

        let odd = read_newest(directory.path(), Some("odd"), 20).unwrap();
        let seqs: Vec<u64> = odd.iter().map(|entry| entry.seq).collect();
        let last_odd = count - count % 2;
        assert_eq!(seqs, (0..20).rev().map(|i| last_odd - 2 * i).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_was_hardly_begun_does_not_break_the_chain() {
        let directory = tempfile::tempdir().unwrap();
        let path = |seq: u64| directory.path().join(format!("{seq:012}.jsonl"));
        let mut files = Files::open(directory.path()).unwrap();
        fill(&mut files, 2, 1);
        fs::write(path(3), heading(files.last) + "\n").unwrap();
        File::create(path(4)).unwrap();
        fill(&mut Files::open(directory.path()).unwrap(), 2, 1);
        assert_eq!(verify(whole(directory.path()).lines()), Ok(4));
        assert!(path(3).exists() && !path(4).exists());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let foreign = directory.path().join("000000000007.jsonl");
        fs::write(&foreign, "garbage\n").unwrap();
        fill(&mut Files::open(directory.path()).unwrap(), 2, 1);
        assert_eq!(read_newest(directory.path(), None, 10).unwrap()[0].seq, 8);
        assert_eq!(fs::read(&foreign).unwrap(), b"garbage\n");
    }
}
