//! Bits that rot while nobody looks, in every page of a store's file.

use super::disk::{Disk, Fault};
use super::workload::{Outcome, begin, commit_until, open};

/// Of the file.
const PAGE: usize = 4096;
/// What redb keeps of itself at the beginning: two bits of every byte are tried.
const HEADER: usize = 320;
/// How far apart the bytes are that rot elsewhere: each page gets at least six of them.
const STRIDE: usize = 599;
const COMMITS: u64 = 24;

/// A store as a process that was killed leaves it, and one that was closed.
fn files() -> [(&'static str, Vec<u8>); 2] {
    let disk = Disk::default();
    disk.will(0, Fault::Fails);
    let mut store = begin(&disk);
    commit_until(&mut store, 0, COMMITS);
    let killed = disk.file();
    drop(store);
    [("killed", killed), ("closed", disk.file())]
}

#[derive(Debug, Default)]
struct Counts {
    refused: u64,
    harmless: u64,
    older: u64,
}

impl Counts {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Refused => self.refused += 1,
            Outcome::Whole => self.harmless += 1,
            Outcome::Older => self.older += 1,
        }
    }
}

#[test]
fn a_bit_that_rots_is_noticed_or_harmless() {
    for (how, file) in files() {
        let mut counts = Counts::default();
        let header = (0..HEADER).flat_map(|at| [at % 8, (at + 4) % 8].map(|bit| (at, bit)));
        let pages = (HEADER..file.len()).step_by(STRIDE).map(|at| (at, at % 8));
        for (at, bit) in header.chain(pages) {
            let mut rotten = file.clone();
            rotten[at] ^= 1 << bit;
            let what = || format!("bit {bit} of byte {at}, {how}");
            counts.count(open(rotten, COMMITS, &what));
        }
        println!("{how}, {} pages, single bits: {counts:?}", file.len() / PAGE);
        assert!(counts.refused + counts.older > 100, "{counts:?}");
        assert!(how == "killed" || counts.older == 0, "{counts:?}");
    }
}

#[test]
fn a_page_that_is_another_is_noticed_or_harmless() {
    for (how, file) in files() {
        let mut counts = Counts::default();
        let pages: Vec<&[u8]> = file.chunks(PAGE).collect();
        for page in 0..pages.len() {
            let zeros = vec![0; pages[page].len()];
            for other in [&zeros[..], pages[(page + 1) % pages.len()], pages[(page + 5) % pages.len()]] {
                let mut rotten = file.clone();
                let length = other.len().min(pages[page].len());
                rotten[page * PAGE..][..length].copy_from_slice(&other[..length]);
                let what = || format!("page {page}, {how}");
                counts.count(open(rotten, COMMITS, &what));
            }
        }
        println!("{how}, {} pages, whole ones: {counts:?}", pages.len());
        assert!(counts.refused + counts.older > 10, "{counts:?}");
        assert!(how == "killed" || counts.older == 0, "{counts:?}");
    }
}

#[test]
fn a_file_that_ends_early_is_refused() {
    for (how, file) in files() {
        for pages in 0..file.len() / PAGE {
            let what = || format!("{pages} pages, {how}");
            assert_ne!(open(file[..pages * PAGE].to_vec(), COMMITS, &what), Outcome::Older, "{}", what());
        }
    }
}
