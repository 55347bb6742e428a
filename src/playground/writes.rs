//! The shared file, and what can be judged from it alone.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// One line of the shared file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) site: String,
    pub(super) token: u64,
    pub(super) sequence: u64,
    /// When it was written, on `CLOCK_BOOTTIME`.
    pub(super) boot_ns: u64,
}

/// All lines of one tenure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) site: String,
    pub(super) token: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    /// Its place in the file.
    first_line: usize,
}

/// What has been read of the file.
#[derive(Debug)]
pub(super) struct Writes {
    path: PathBuf,
    offset: u64,
    unfinished: Vec<u8>,
    lines: Vec<Write>,
}

impl Writes {
    /// Of the file at `path`, which need not exist yet.
    pub(super) fn of(path: PathBuf) -> Self {
        Self { path, offset: 0, unfinished: Vec::new(), lines: Vec::new() }
    }

    /// Reads what is new; gives the number of new lines.
    pub(super) fn read_on(&mut self) -> io::Result<usize> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let read = file.read_to_end(&mut self.unfinished)?;
        self.offset += read as u64;
        let before = self.lines.len();
        while let Some(end) = self.unfinished.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            self.lines.push(parse(&line).ok_or_else(|| io::Error::other(format!("a broken line: {line}")))?);
        }
        Ok(self.lines.len() - before)
    }

    /// All lines so far.
    pub(super) fn lines(&self) -> &[Write] {
        &self.lines
    }

    /// The tenures, in the order in which they began to write.
    pub(super) fn tenures(&self) -> Vec<Tenure> {
        let mut tenures: Vec<Tenure> = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            match tenures
                .iter_mut()
                .rev()
                .find(|tenure| tenure.token == line.token && tenure.site == line.site)
            {
                Some(tenure) => tenure.last_ns = tenure.last_ns.max(line.boot_ns),
                None => tenures.push(Tenure {
                    site: line.site.clone(),
                    token: line.token,
                    first_ns: line.boot_ns,
                    last_ns: line.boot_ns,
                    first_line: index,
                }),
            }
        }
        tenures
    }

    /// The smallest gap between the last write of all that went before and the first of a tenure, in ns; negative is
    /// overlap. None with fewer than two tenures.
    pub(super) fn gap_ns(&self) -> Option<i64> {
        let tenures = self.tenures();
        let mut last_before = tenures.first()?.last_ns;
        let mut smallest = None;
        for tenure in &tenures[1..] {
            let gap = signed_difference(tenure.first_ns, last_before);
            smallest = Some(smallest.map_or(gap, |smallest: i64| smallest.min(gap)));
            last_before = last_before.max(tenure.last_ns);
        }
        smallest
    }

    /// Writes of an older tenure after a newer one had begun, by their place in the file or by their time; and writes out
    /// of sequence within a tenure, which a second process makes.
    pub(super) fn overlapping(&self) -> usize {
        let tenures = self.tenures();
        let is_late = |(index, line): &(usize, &Write)| {
            let own =
                tenures.iter().position(|tenure| tenure.token == line.token && tenure.site == line.site);
            let newer = &tenures[own.map_or(0, |own| own + 1)..];
            newer.iter().any(|newer| newer.first_line < *index || newer.first_ns <= line.boot_ns)
        };
        let late = self.lines.iter().enumerate().filter(is_late).count();
        late + tenures.iter().map(|tenure| self.out_of_sequence(tenure)).sum::<usize>()
    }

    fn out_of_sequence(&self, tenure: &Tenure) -> usize {
        let own = self.lines.iter().filter(|line| line.token == tenure.token && line.site == tenure.site);
        let sequences: Vec<u64> = own.map(|line| line.sequence).collect();
        sequences.windows(2).filter(|pair| pair[1] <= pair[0]).count()
    }

    /// The longest that nothing was written between two moments, in ns.
    pub(super) fn longest_silence_ns(&self, from_ns: u64, to_ns: u64) -> u64 {
        let within = self.lines.iter().map(|line| line.boot_ns).filter(|at| (from_ns..=to_ns).contains(at));
        let mut moments: Vec<u64> = within.chain([from_ns, to_ns]).collect();
        moments.sort_unstable();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}

fn signed_difference(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(if a > b { i64::MAX } else { i64::MIN })
}

fn parse(line: &str) -> Option<Write> {
    let mut fields = line.split_ascii_whitespace();
    let write = Write {
        site: fields.next()?.to_owned(),
        token: fields.next()?.parse().ok()?,
        sequence: fields.next()?.parse().ok()?,
        boot_ns: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(write)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(text: &str) -> Writes {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("writes");
        std::fs::write(&path, text).unwrap();
        let mut writes = Writes::of(path);
        writes.read_on().unwrap();
        writes
    }

    #[test]
    fn a_clean_handover_has_a_gap_and_no_overlap() {
        let writes = writes("paris 1 1 100\nparis 1 2 150\nlyon 2 1 400\nlyon 2 2 450\nparis 3 1 460\n");
        let tokens: Vec<u64> = writes.tenures().iter().map(|tenure| tenure.token).collect();
        assert_eq!(tokens, [1, 2, 3]);
        assert_eq!(writes.gap_ns(), Some(10));
        assert_eq!(writes.overlapping(), 0);
        assert_eq!(writes.longest_silence_ns(100, 460), 250);
        assert_eq!(writes.longest_silence_ns(100, 900), 440);
    }

    #[test]
    fn an_old_writer_that_goes_on_is_seen() {
        let by_place = writes("paris 1 1 100\nlyon 2 1 400\nparis 1 2 390\n");
        assert_eq!((by_place.overlapping(), by_place.gap_ns()), (1, Some(10)));
        let by_time = writes("paris 1 1 100\nparis 1 2 410\nlyon 2 1 400\n");
        assert_eq!((by_time.overlapping(), by_time.gap_ns()), (1, Some(-10)));
    }

    #[test]
    fn two_writers_of_one_tenure_are_seen() {
        assert_eq!(writes("paris 1 1 100\nparis 1 1 110\nparis 1 2 150\n").overlapping(), 1);
        assert_eq!(writes("paris 1 1 100\nlyon 1 1 110\nparis 1 2 150\n").overlapping(), 1);
    }

    #[test]
    fn reads_on_where_it_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("writes");
        let mut writes = Writes::of(path.clone());
        assert_eq!(writes.read_on().unwrap(), 0);
        std::fs::write(&path, "paris 1 1 100\nparis 1 2").unwrap();
        assert_eq!(writes.read_on().unwrap(), 1);
        std::fs::write(&path, "paris 1 1 100\nparis 1 2 150\n").unwrap();
        assert_eq!(writes.read_on().unwrap(), 1);
        std::fs::write(&path, "paris 1 1 100\nparis 1 2 150\nrubbish\n").unwrap();
        assert!(writes.read_on().is_err());
    }
}
