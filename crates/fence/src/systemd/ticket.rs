//! The file that says that a ticket is held here, and with which token: an environment file for units, and what lets its target
//! be started at all (`AssertPathExists=` in conf/systemd/sitegate-ticket@.target).

use std::path::{Path, PathBuf};
use std::{fs, io};

use sitegate_fence_client::wire::Name;
use sitegate_host::durable::{self, DurableError};

/// Where the files are. On a file system in memory: no ticket is held after a reboot.
pub(super) const DIRECTORY: &str = "/run/sitegate/tickets";

/// The instance of `sitegate-ticket@.target` that is the ticket's, and the stem of its file. Names of units hold no `/`, names of
/// tickets no `:`.
pub(super) fn instance(ticket: &Name) -> String {
    ticket.as_str().replace('/', ":")
}

fn file(directory: &Path, ticket: &Name) -> PathBuf {
    directory.join(format!("{}.env", instance(ticket)))
}

/// Says that it is held.
pub(super) fn hold(directory: &Path, ticket: &Name, token: &str, site: &str) -> Result<(), DurableError> {
    fs::create_dir_all(directory).map_err(DurableError::on("create the directory", directory))?;
    let text = format!("SITEGATE_TICKET={ticket}\nSITEGATE_TOKEN={token}\nSITEGATE_SITE={site}\n");
    durable::write(&file(directory, ticket), text.as_bytes())
}

/// Says that it is held no more.
pub(super) fn release(directory: &Path, ticket: &Name) -> Result<(), DurableError> {
    let file = file(directory, ticket);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DurableError::on("remove", &file)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_while_the_ticket_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let (tickets, ticket) = (dir.path().join("tickets"), Name::new("a/my-db").unwrap());
        release(&tickets, &ticket).unwrap();
        hold(&tickets, &ticket, "259", "paris").unwrap();
        hold(&tickets, &ticket, "515", "paris").unwrap();
        let text = fs::read_to_string(tickets.join("a:my-db.env")).unwrap();
        assert_eq!(text, "SITEGATE_TICKET=a/my-db\nSITEGATE_TOKEN=515\nSITEGATE_SITE=paris\n");
        release(&tickets, &ticket).unwrap();
        release(&tickets, &ticket).unwrap();
        assert_eq!(fs::read_dir(&tickets).unwrap().count(), 0);
        fs::write(dir.path().join("file"), "").unwrap();
        let error = hold(&dir.path().join("file"), &ticket, "1", "").unwrap_err();
        assert_eq!(error.operation, "create the directory");
    }
}
