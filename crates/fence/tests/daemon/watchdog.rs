//! The watchdog, with a FIFO in the place of a device: what a device would be told can be read from it. No device is reset here.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use sitegate_fence_client::ClientError;

use crate::site::*;

const PET: u8 = 0;
const STOP: u8 = b'V';

/// The shortest time-out there is.
const WATCHDOG: &str = "[watchdog]\ndevice = \"watchdog\"\ntimeout = \"2s\"\n";

struct Device(File);

impl Device {
    fn at(site: &Site) -> Self {
        let path = site.path("watchdog");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        Self::open(site)
    }

    fn open(site: &Site) -> Self {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        Self(File::options().read(true).custom_flags(flags).open(site.path("watchdog")).unwrap())
    }

    /// What it was told since it was asked last.
    fn told(&mut self) -> Vec<u8> {
        let mut told = Vec::new();
        match self.0.read_to_end(&mut told) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        told
    }
}

fn configure(site: &Site, fence: &str) {
    site.configure(&format!("{WATCHDOG}[resource.db]\nlast-level-may-fail = true\nfence = [{fence}]\n"));
}

#[tokio::test]
async fn it_counts_as_long_as_something_is_armed() {
    let mut site = Site::new();
    let level = site.script("level", "exit 0");
    configure(&site, &format!("{{ driver = \"command\", command = [\"{level}\"], within = \"60s\" }}"));
    let mut device = Device::at(&site);
    let (client, mut events) = site.up().await;
    assert_eq!(device.told(), [STOP], "tried out, and stopped, as nothing is armed");
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    let mut told = Vec::new();
    eventually("it is petted", || {
        told.extend(device.told());
        told.len() > 3
    })
    .await;
    assert!(told.iter().all(|byte| *byte == PET), "{told:?}");
    client.fence(db(), 1, revoked()).await.unwrap();
    receipt(&mut events).await;
    eventually("it is stopped", || device.told().last() == Some(&STOP)).await;
    assert!(site.terminate().success());
    assert!(device.told().is_empty());
}

#[tokio::test]
async fn a_level_that_leaves_it_to_the_watchdog_pets_it_no_more() {
    let mut site = Site::new();
    let level = site.script("level", "exit 1");
    let first = format!("{{ driver = \"command\", command = [\"{level}\"], within = \"60s\" }}");
    configure(&site, &format!("{first}, {{ driver = \"watchdog\" }}"));
    let mut device = Device::at(&site);
    let (client, _events) = site.up().await;
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
    eventually("it is petted", || device.told().contains(&PET)).await;
    extend(&client, 1, 200).await;
    eventually("the level has begun", || site.text("log").contains("PETTED NO MORE")).await;
    device.told();
    // A whole time-out, after which a device would have reset the machine.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(device.told().is_empty());
    assert!(!site.terminate().success() || site.text("log").contains("THE WATCHDOG COUNTS ON"));
    assert!(device.told().is_empty(), "not stopped at the end either");
    // The next daemon finds the fence open, and goes on so.
    site.up().await;
    eventually("the level has begun again", || site.text("log").matches("PETTED NO MORE").count() > 1).await;
}

#[tokio::test]
async fn nothing_is_armed_without_it() {
    let mut site = Site::new();
    configure(&site, "{ driver = \"watchdog\" }");
    let (code, said) = site.fails();
    assert_eq!(code, 1);
    assert!(said.contains("there is no watchdog at"), "{said}");
    let device = Device::at(&site);
    let (client, _events) = site.up().await;
    drop(device); // nobody reads: as if the device were gone
    let refused = client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap_err();
    assert!(
        matches!(&refused, ClientError::Failed(why) if why.contains("without the watchdog")),
        "{refused}"
    );
    let _device = Device::open(&site);
    client.arm(db(), 1, ahead(FAR_MS), 1).await.unwrap();
}
