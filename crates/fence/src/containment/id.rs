//! What tells the processes of this daemon from another's.

use std::fs;
use std::path::Path;

use sitegate_host::durable::{self, DurableError};

use crate::store::with_causes;

/// The id of this state directory, made up once.
pub(super) fn own_id(durable_file: &Path, runtime_file: &Path) -> Result<String, DurableError> {
    // This boot's id wins: what runs now bears it. Then it does not matter what is kept, nor whether it can be.
    if let Some(id) = read_id(runtime_file)? {
        if !matches!(read_id(durable_file), Ok(Some(kept)) if kept == id)
            && let Err(error) = durable::write(durable_file, id.as_bytes())
        {
            tracing::warn!("cannot keep the containment's id: {}", with_causes(&error));
        }
        return Ok(id);
    }
    let id = match read_id(durable_file)? {
        // Not written again: a full disk after a reboot is no reason not to fence what was armed before it.
        Some(id) => id,
        None => {
            let id = new_id()?;
            durable::write(durable_file, id.as_bytes())?;
            id
        }
    };
    publish(runtime_file, id.as_bytes());
    Ok(id)
}

/// Writes what helps later daemons of this boot to find what runs. Without room for it there is still all the more to fence now.
pub(super) fn publish(file: &Path, bytes: &[u8]) {
    if let Err(error) = durable::replace(file, bytes) {
        tracing::warn!("later daemons of this boot may not find all that runs: {}", with_causes(&error));
    }
}

fn read_id(file: &Path) -> Result<Option<String>, DurableError> {
    let text = durable::read(file)?.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.map(|id| id.trim().to_owned()).filter(|id| is_id(id)))
}

fn new_id() -> Result<String, DurableError> {
    let random = Path::new("/proc/sys/kernel/random/uuid");
    let id = fs::read_to_string(random).map_err(DurableError::on("read", random))?;
    Ok(id.trim().to_owned())
}

fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_once_and_outlives_the_loss_of_either_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, published) = (dir.path().join("state"), dir.path().join("run"));
        let id = own_id(&kept, &published).unwrap();
        for lost in [&kept, &published] {
            assert_eq!(own_id(&kept, &published).unwrap(), id);
            fs::remove_file(lost).unwrap();
            assert_eq!(own_id(&kept, &published).unwrap(), id);
            assert_eq!(read_id(lost).unwrap(), Some(id.clone()));
        }
        // After a reboot, on a disk that takes nothing.
        fs::remove_file(&published).unwrap();
        fs::create_dir(dir.path().join("state.new")).unwrap();
        assert_eq!(own_id(&kept, &published).unwrap(), id);
        // And with a runtime directory that takes nothing either.
        fs::remove_file(&published).unwrap();
        fs::create_dir(dir.path().join("run.new")).unwrap();
        assert_eq!(own_id(&kept, &published).unwrap(), id);
        fs::remove_dir(dir.path().join("run.new")).unwrap();
        fs::remove_dir(dir.path().join("state.new")).unwrap();
        fs::write(&kept, "../x").unwrap();
        fs::write(&published, "../x").unwrap();
        assert!(is_id(&own_id(&kept, &published).unwrap()));
    }
}
