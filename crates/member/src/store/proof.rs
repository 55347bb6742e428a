//! The proof that a disk has all that was ever committed: the count of commits, in the runtime directory, under the id
//! of this boot.
//!
//! It is written after each commit and before its effects. A start finds its disk *proven* if the proof is of this very
//! boot and identity and the disk has seen at least as many commits: then no effect can rest on anything that the disk
//! does not have. A disk that was put back, or a host that was restarted (which may have lost what its disk promised),
//! has no proof. The file is one write into the page cache and is never synced: what it says matters within one boot only.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sitegate_protocol::{Identity, Lsn};

/// In the runtime directory.
const FILE: &str = "proof";

/// The file, held open.
#[derive(Debug)]
pub struct Proof {
    file: File,
    path: PathBuf,
    boot_id: String,
    identity: Identity,
}

/// The proof cannot be read or written; the machine's fault.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the proof {}", path.display())]
pub struct ProofError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Proof {
    /// Opens the proof of `identity` in `directory`, for this boot.
    ///
    /// # Errors
    /// If the file can be neither opened nor made.
    pub fn open(directory: &Path, boot_id: &str, identity: Identity) -> Result<Self, ProofError> {
        let path = directory.join(FILE);
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        match open {
            Ok(file) => Ok(Self { file, path, boot_id: boot_id.to_owned(), identity }),
            Err(source) => Err(ProofError { operation: "open", path, source }),
        }
    }

    /// Whether a disk with `lsn` commits has all that was ever committed.
    #[must_use]
    pub fn proves(&self, lsn: Lsn) -> bool {
        /// Longer than any proof.
        const LENGTH_MAX: usize = 256;
        let mut text = [0_u8; LENGTH_MAX];
        let Ok(length) = self.file.read_at(&mut text, 0) else { return false };
        let line = text[..length].split(|byte| *byte == b'\n').next();
        let line = line.filter(|line| line.len() < length).and_then(|line| std::str::from_utf8(line).ok());
        let said = line.and_then(|line| line.strip_prefix(&self.heading())?.parse().ok());
        said.is_some_and(|said: u64| lsn.0 >= said)
    }

    /// Says that the disk has seen `lsn` commits, whatever happens to this process from here on.
    ///
    /// # Errors
    /// If it cannot be written. Then an old proof may stand there, and the process must end.
    pub fn write(&self, lsn: Lsn) -> Result<(), ProofError> {
        // Always as long, so that no end of an older one stays.
        let line = format!("{}{:020}\n", self.heading(), lsn.0);
        self.file.write_all_at(line.as_bytes(), 0).map_err(|source| self.failed("write", source))
    }

    /// Takes the proof away: the next start looks for witnesses.
    ///
    /// # Errors
    /// If it cannot be emptied.
    pub fn withdraw(&self) -> Result<(), ProofError> {
        self.file.set_len(0).map_err(|source| self.failed("withdraw", source))
    }

    fn heading(&self) -> String {
        format!("{} {:032x} ", self.boot_id, self.identity.0)
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> ProofError {
        ProofError { operation, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proves_what_this_boot_and_identity_committed() {
        let directory = tempfile::tempdir().unwrap();
        let open = |boot: &str, identity| Proof::open(directory.path(), boot, Identity(identity)).unwrap();
        let proof = open("boot-1", 7);
        assert!(!proof.proves(Lsn(u64::MAX)), "nothing was proven yet");
        proof.write(Lsn(1_000_000)).unwrap();
        proof.write(Lsn(12)).unwrap();
        let again = open("boot-1", 7);
        assert!(again.proves(Lsn(12)) && again.proves(Lsn(13)) && !again.proves(Lsn(11)));
        assert!(!open("boot-2", 7).proves(Lsn(12)), "another boot");
        assert!(!open("boot-1", 8).proves(Lsn(12)), "another identity");
        again.withdraw().unwrap();
        assert!(!proof.proves(Lsn(12)));
    }

    #[test]
    fn what_was_cut_short_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let proof = Proof::open(directory.path(), "boot", Identity(1)).unwrap();
        proof.write(Lsn(120)).unwrap();
        let whole = proof.file.metadata().unwrap().len();
        for length in 0..whole {
            proof.write(Lsn(120)).unwrap();
            proof.file.set_len(length).unwrap();
            assert!(!proof.proves(Lsn(u64::MAX)), "{length} bytes");
        }
    }
}
