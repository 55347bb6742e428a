//! A disk in memory that counts what is done to it, and does something wrong at one point.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

/// Of a disk, in bytes: what it writes at once, if it writes it.
const SECTOR: usize = 512;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operation fails, and so does every one after it.
    Fails,
    /// The operation fails, and the disk is well again.
    FailsOnce,
    /// A write fails after a part of it.
    WritesPart,
    /// A write says that it is done, and only a part of it is. A disk that lies.
    TearsSilently,
    /// A write or a sync says that it is done, and is not. A disk that lies.
    LosesSilently,
    /// A bit of what is read is wrong.
    RotsRead,
}

/// What of the writes since the last sync the disk has after a power cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    /// All: only the process has ended.
    All,
    /// None.
    Nothing,
    /// All until some point, that one torn.
    Prefix(u64),
    /// Some sectors of each, in whatever order.
    Sectors(u64),
}

/// A handle on the disk. Clones share it, so that it outlives the database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What the kernel shows.
    seen: Vec<u8>,
    /// What is certainly on the disk.
    synced: Vec<u8>,
    /// What is not yet, in order.
    unsynced: Vec<Change>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    broken: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Disk {
    /// One that holds this file.
    pub(crate) fn holding(file: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.state().synced = file.clone();
        disk.state().seen = file;
        disk
    }

    /// What it will do wrong at its `operation`th operation from now.
    pub(crate) fn will(&self, operation: u64, fault: Fault) {
        let mut state = self.state();
        state.operations = 0;
        state.fault = Some((operation, fault));
    }

    /// How many operations there were since it was last told what to do wrong.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The file, as the kernel shows it.
    pub(crate) fn file(&self) -> Vec<u8> {
        self.state().seen.clone()
    }

    /// The file, as a power cut leaves it now.
    pub(crate) fn after_power_cut(&self, kept: Kept) -> Vec<u8> {
        let state = self.state();
        let mut file = state.synced.clone();
        let (mut chance, most) = match kept {
            Kept::All => return state.seen.clone(),
            Kept::Nothing => return file,
            Kept::Prefix(seed) | Kept::Sectors(seed) => (Chance(seed), state.unsynced.len()),
        };
        let until = chance.below(most + 1);
        for (index, change) in state.unsynced.iter().enumerate() {
            match kept {
                Kept::Prefix(_) if index > until => break,
                Kept::Prefix(_) if index == until => apply_part(&mut file, change, &mut chance),
                Kept::Sectors(_) => apply_sectors(&mut file, change, &mut chance),
                _ => apply(&mut file, change),
            }
        }
        file
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    /// Counts an operation; the fault that strikes it, or its failure.
    fn begin(&mut self) -> io::Result<Option<Fault>> {
        let failed = || io::Error::other("the disk is gone");
        self.operations += 1;
        if self.broken {
            return Err(failed());
        }
        let fault = self.fault.filter(|(at, _)| *at == self.operations).map(|(_, fault)| fault);
        match fault {
            Some(Fault::Fails) => {
                self.broken = true;
                Err(failed())
            }
            Some(Fault::FailsOnce) => Err(failed()),
            fault => Ok(fault),
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.begin()?;
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(state.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        if fault == Some(Fault::RotsRead) {
            let middle = out.len() / 2;
            out[middle] ^= 0x10;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.begin()? != Some(Fault::LosesSilently) {
            state.change(Change::Length(usize::try_from(length).unwrap()));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.begin()? != Some(Fault::LosesSilently) {
            state.unsynced.clear();
            state.synced = state.seen.clone();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let (fault, at) = (state.begin()?, usize::try_from(offset).unwrap());
        let part = data.len() / 2 / SECTOR * SECTOR;
        match fault {
            Some(Fault::LosesSilently) => {}
            Some(Fault::TearsSilently) => state.change(Change::Write(at, data[..part].to_vec())),
            Some(Fault::WritesPart) => {
                state.change(Change::Write(at, data[..part].to_vec()));
                state.broken = true;
                return Err(io::ErrorKind::StorageFull.into());
            }
            _ => state.change(Change::Write(at, data.to_vec())),
        }
        Ok(())
    }
}

fn apply(file: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => file.resize(*length, 0),
        Change::Write(at, bytes) => {
            if file.len() < at + bytes.len() {
                file.resize(at + bytes.len(), 0);
            }
            file[*at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

fn apply_part(file: &mut Vec<u8>, change: &Change, chance: &mut Chance) {
    if let Change::Write(at, bytes) = change {
        let part = chance.below(bytes.len() / SECTOR + 1) * SECTOR;
        apply(file, &Change::Write(*at, bytes[..part].to_vec()));
    }
}

fn apply_sectors(file: &mut Vec<u8>, change: &Change, chance: &mut Chance) {
    match change {
        // A file never ends within what was synced.
        Change::Length(length) if *length >= file.len() => apply(file, change),
        Change::Length(_) => {}
        Change::Write(at, bytes) => {
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                if chance.below(2) == 0 {
                    apply(file, &Change::Write(at + index * SECTOR, sector.to_vec()));
                }
            }
        }
    }
}

/// Numbers from a seed: xorshift64.
pub(crate) struct Chance(pub u64);

impl Chance {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = (self.0 ^ 0x9e37_79b9_7f4a_7c15).max(1);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % end.max(1)
    }
}
