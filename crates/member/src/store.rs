//! What a member must not forget, on disk: one redb database with one entry for each [`Slot`] of the protocol.
//!
//! `init` creates it, once; daemons only open it. `Missing` and `Corrupt` are different errors and neither is ever a
//! "first boot": a member that begins with nothing could vote twice. A failed commit is final.

use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use sitegate_host::durable::{DurableError, LockFile, sync_parent};
use sitegate_protocol::{Durable, Identity, Lsn, Record, Slot};

mod error;
mod owner;
mod proof;
mod sum;
#[cfg(test)]
mod tests;

pub use error::{CommitError, CreateError, OpenError};
pub use owner::Owner;
pub use proof::{Proof, ProofError};

use owner::OwnerRecord;
use sum::Sum;

/// The version of what lies in the database; a daemon opens no other.
pub const FORMAT_VERSION: u32 = 1;

/// The database's name in the state directory.
const FILE: &str = "store.redb";
/// Where it is made, so that a half-made one is never taken for one.
const FILE_NEW: &str = "store.redb.new";
/// The lock's name in the state directory.
const LOCK: &str = "lock";
/// How much of the database is kept in memory, in bytes: all of a small formation, and of ten thousand tickets what one
/// failover touches. redb's own default is 1 GiB.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

/// Postcard of [`Slot`] to postcard of [`Record`].
const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
/// What is told about the whole, by the names below.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// [`FORMAT_VERSION`], little endian.
const META_FORMAT: &str = "format";
/// Postcard of [`OwnerRecord`].
const META_OWNER: &str = "owner";
/// The count of commits, 64 bits, little endian.
const META_LSN: &str = "lsn";
/// The [`Sum`] of all records and of the rest of [`META`] but itself and the format, 128 bits, little endian.
const META_SUM: &str = "sum";

/// The store of one member, locked for this process.
#[derive(Debug)]
pub struct Store {
    database: Database,
    file: PathBuf,
    lsn: Lsn,
    sum: Sum,
    _lock: Option<LockFile>,
}

/// A store with what was in it.
#[derive(Debug)]
pub struct Loaded {
    /// For what comes.
    pub store: Store,
    /// What was there.
    pub durable: Durable,
    /// How many commits it has seen.
    pub lsn: Lsn,
}

/// Creates the store of `owner` under `identity` in `directory`, which is made if need be.
///
/// # Errors
/// [`CreateError::Exists`] if there is one; then nothing is changed.
pub fn create(directory: &Path, owner: &Owner, identity: Identity) -> Result<(), CreateError> {
    std::fs::create_dir_all(directory).map_err(DurableError::on("create the directory", directory))?;
    let _lock = LockFile::acquire(&directory.join(LOCK))?;
    let (file, new) = (directory.join(FILE), directory.join(FILE_NEW));
    if file.exists() {
        return Err(CreateError::Exists(directory.to_path_buf()));
    }
    // Left over from an init that was cut short.
    if let Err(error) = std::fs::remove_file(&new)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(DurableError::on("remove", &new)(error).into());
    }
    let failed = |source| CreateError::Failed { file: new.clone(), source: Box::new(source) };
    let database = builder().create(&new).map_err(|error| failed(error.into()))?;
    write_first(&database, owner, identity).map_err(failed)?;
    drop(database);
    std::fs::rename(&new, &file).map_err(DurableError::on("rename", &new))?;
    sync_parent(&file)?;
    Ok(sync_parent(directory)?)
}

/// Opens the store of `owner` in `directory` and reads all of it.
///
/// # Errors
/// [`OpenError`]; nothing is changed.
pub fn open(directory: &Path, owner: &Owner) -> Result<Loaded, OpenError> {
    let file = directory.join(FILE);
    if !file.exists() {
        // A directory that cannot be looked into is not an empty one.
        return match std::fs::metadata(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(OpenError::Failed { file, source: Box::new(redb::Error::Io(error)) })
            }
            _ => Err(OpenError::Missing(directory.to_path_buf())),
        };
    }
    let lock = LockFile::acquire(&directory.join(LOCK))?;
    let database = match builder().set_check_integrity_on_open(true).open(&file) {
        Ok(database) => database,
        Err(error) => return Err(not_opened(file, error)),
    };
    load(database, file, owner, Some(lock))
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn not_opened(file: PathBuf, error: redb::DatabaseError) -> OpenError {
    use redb::{DatabaseError, StorageError};
    match error {
        DatabaseError::Storage(StorageError::Corrupted(why)) => OpenError::Corrupt { file, why },
        // redb says so of a file that does not begin as its own do, or ends too early; the last is a place beyond the end of memory.
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(
                error.kind(),
                std::io::ErrorKind::InvalidData
                    | std::io::ErrorKind::UnexpectedEof
                    | std::io::ErrorKind::InvalidInput
            ) =>
        {
            OpenError::Corrupt { file, why: error.to_string() }
        }
        DatabaseError::RepairAborted => OpenError::Corrupt { file, why: "it cannot be repaired".into() },
        // All of ours have been of one version: a bit of the header is another.
        DatabaseError::UpgradeRequired(version) => OpenError::Corrupt {
            file,
            why: format!("its header says file format {version}, which sitegate has never written"),
        },
        error => OpenError::Failed { file, source: Box::new(error.into()) },
    }
}

fn write_first(database: &Database, owner: &Owner, identity: Identity) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let owner = encode(&OwnerRecord::new(owner, identity));
        let lsn = 0_u64.to_le_bytes();
        let mut sum = Sum::default();
        sum.add((META_OWNER.as_bytes(), &owner));
        sum.add((META_LSN.as_bytes(), &lsn));
        meta.insert(META_FORMAT, FORMAT_VERSION.to_le_bytes().as_slice())?;
        meta.insert(META_OWNER, owner.as_slice())?;
        meta.insert(META_LSN, lsn.as_slice())?;
        meta.insert(META_SUM, sum.to_bytes().as_slice())?;
        transaction.open_table(RECORDS)?;
    }
    Ok(transaction.commit()?)
}

fn load(
    database: Database,
    file: PathBuf,
    owner: &Owner,
    lock: Option<LockFile>,
) -> Result<Loaded, OpenError> {
    let contents = match read_all(&database) {
        Ok(contents) => contents,
        Err(NotRead::Damaged(why)) => return Err(OpenError::Corrupt { file, why }),
        Err(NotRead::Failed(source)) => return Err(OpenError::Failed { file, source: Box::new(source) }),
    };
    if contents.format != FORMAT_VERSION {
        return Err(OpenError::OtherFormat { file, found: contents.format });
    }
    let (durable, lsn, sum) = match contents.rest {
        Ok(rest) => rest,
        Err(why) => return Err(OpenError::Corrupt { file, why }),
    };
    if contents.owner.as_ref() != Some(owner) {
        let found = contents.owner.unwrap_or_else(|| Owner::new("?", "?"));
        return Err(OpenError::NotOurs { file, found, expected: owner.clone() });
    }
    Ok(Loaded { store: Store { database, file, lsn, sum, _lock: lock }, durable, lsn })
}

/// What a database says; the format decides whether the rest means anything.
struct Contents {
    format: u32,
    owner: Option<Owner>,
    rest: Result<(Durable, Lsn, Sum), String>,
}

enum NotRead {
    Damaged(String),
    Failed(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for NotRead {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Corrupted(why) => Self::Damaged(why),
            error @ (redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => {
                Self::Damaged(error.to_string())
            }
            error => Self::Failed(error),
        }
    }
}

fn read_all(database: &Database) -> Result<Contents, NotRead> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let word = |name: &str| -> Result<Vec<u8>, NotRead> {
        let value = meta.get(name)?.map(|value| value.value().to_vec());
        value.ok_or_else(|| NotRead::Damaged(format!("it has no {name}")))
    };
    let format = u32::from_le_bytes(number(META_FORMAT, &word(META_FORMAT)?)?);
    if format != FORMAT_VERSION {
        return Ok(Contents { format, owner: None, rest: Err("it has another format".into()) });
    }
    let lsn = word(META_LSN)?;
    let owner_bytes = word(META_OWNER)?;
    let Ok(owner) = postcard::from_bytes::<OwnerRecord>(&owner_bytes) else {
        return Ok(Contents { format, owner: None, rest: Err("it does not say whose it is".into()) });
    };
    let mut sum = Sum::default();
    sum.add((META_LSN.as_bytes(), &lsn));
    sum.add((META_OWNER.as_bytes(), &owner_bytes));
    let mut durable = Durable::new(owner.identity());
    let records = transaction.open_table(RECORDS)?;
    for entry in records.iter()? {
        let (key, value) = entry?;
        sum.add((key.value(), value.value()));
        match decode(key.value(), value.value()) {
            Ok(record) => durable.apply(&record),
            Err(why) => return Ok(Contents { format, owner: Some(owner.owner()), rest: Err(why) }),
        }
    }
    let lsn = Lsn(u64::from_le_bytes(number(META_LSN, &lsn)?));
    let written = Sum::from_bytes(number(META_SUM, &word(META_SUM)?)?);
    let rest = if sum == written {
        Ok((durable, lsn, sum))
    } else {
        Err("its entries are not those that were written: their sum is another".into())
    };
    Ok(Contents { format, owner: Some(owner.owner()), rest })
}

fn number<const BYTES: usize>(name: &str, bytes: &[u8]) -> Result<[u8; BYTES], NotRead> {
    bytes
        .try_into()
        .map_err(|_| NotRead::Damaged(format!("its {name} has {} bytes, not {BYTES}", bytes.len())))
}

fn decode(key: &[u8], value: &[u8]) -> Result<Record, String> {
    let slot: Slot = postcard::from_bytes(key).map_err(|e| format!("an entry without a usable key: {e}"))?;
    let record: Record = postcard::from_bytes(value).map_err(|e| format!("the entry {slot:?}: {e}"))?;
    if record.slot() == slot { Ok(record) } else { Err(format!("the entry {slot:?} holds {record:?}")) }
}

fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("the types of the store have nothing that postcard cannot write")
}

impl Store {
    /// A store in any backend, made anew: for tests that break it.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn in_backend(
        backend: impl StorageBackend,
        owner: &Owner,
        identity: Identity,
    ) -> Result<Loaded, OpenError> {
        let file = PathBuf::from("(backend)");
        let failed = |source| OpenError::Failed { file: file.clone(), source: Box::new(source) };
        let database = builder().create_with_backend(backend).map_err(|error| failed(error.into()))?;
        write_first(&database, owner, identity).map_err(failed)?;
        load(database, file, owner, None)
    }

    /// Opens the store of `owner` that lies in `backend`, as [`open`] does with a file: for tests that broke it.
    ///
    /// # Errors
    /// As [`open`]; never [`OpenError::Missing`] and never [`OpenError::Locked`].
    pub fn open_backend(backend: impl StorageBackend, owner: &Owner) -> Result<Loaded, OpenError> {
        let file = PathBuf::from("(backend)");
        match backend.len() {
            // redb would begin a new database, where with a file it finds that it is none.
            Ok(0) => return Err(OpenError::Corrupt { file, why: "it is empty".into() }),
            Ok(_) => {}
            Err(error) => {
                return Err(OpenError::Failed { file, source: Box::new(redb::Error::Io(error)) });
            }
        }
        match builder().set_check_integrity_on_open(true).create_with_backend(backend) {
            Ok(database) => load(database, file, owner, None),
            Err(error) => Err(not_opened(file, error)),
        }
    }

    /// Returns the sum of what is there now.
    fn write<'r>(&self, records: impl Iterator<Item = &'r Record>, lsn: Lsn) -> Result<Sum, redb::Error> {
        let mut sum = self.sum;
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            for record in records {
                let (key, value) = (encode(&record.slot()), encode(record));
                if let Some(before) = table.insert(key.as_slice(), value.as_slice())? {
                    sum.remove((&key, before.value()));
                }
                sum.add((&key, &value));
            }
            let (before, lsn) = (self.lsn.0.to_le_bytes(), lsn.0.to_le_bytes());
            sum.remove((META_LSN.as_bytes(), &before));
            sum.add((META_LSN.as_bytes(), &lsn));
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_LSN, lsn.as_slice())?;
            meta.insert(META_SUM, sum.to_bytes().as_slice())?;
        }
        transaction.commit()?;
        Ok(sum)
    }
}

impl sitegate_protocol::Store for Store {
    type Error = CommitError;

    fn commit<'r>(&mut self, records: impl Iterator<Item = &'r Record>) -> Result<Lsn, CommitError> {
        let lsn = Lsn(self.lsn.0 + 1);
        let written = self.write(records, lsn);
        self.sum = written
            .map_err(|source| CommitError::Store { file: self.file.clone(), source: Box::new(source) })?;
        self.lsn = lsn;
        Ok(lsn)
    }
}
