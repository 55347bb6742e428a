//! What fuzzing has found worth keeping, replayed: every file of `fuzz/corpus` (docs/testing.md, "Fuzzing").

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use sitegate_fuzzing::{INPUT_BYTES_MAX, TARGETS, Target};

/// A corpus is replayed with every `cargo test`: it stays small.
const FILES_MAX: usize = 300;

fn files(target: &Target) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target.name);
    let listed = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let files = files(target);
    assert!(!files.is_empty() && files.len() <= FILES_MAX, "{name} has {} files", files.len());
    for file in files {
        let input = fs::read(&file).unwrap();
        assert!(input.len() <= INPUT_BYTES_MAX, "{} is too long", file.display());
        assert!(catch_unwind(|| (target.run)(&input)).is_ok(), "{} fails", file.display());
    }
}

macro_rules! replays {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            replay(stringify!($name));
        }
    )* };
}

replays!(api caller configuration frame handshake journal lines members store);

#[test]
fn every_target_is_replayed_and_can_be_fuzzed() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(programs.join("Cargo.toml")).unwrap();
    let this = include_str!("corpus.rs");
    for target in TARGETS {
        let name = target.name;
        assert!(
            this.contains(&format!("{name} ")) || this.contains(&format!("{name})")),
            "{name} is not here"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        assert!(programs.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name} has no program");
    }
}

#[test]
fn seeds_are_in_the_corpus() {
    for target in TARGETS {
        let files = files(&target);
        for (name, _) in (target.seeds)() {
            let file = format!("seed-{name}");
            let there = files.iter().any(|path| path.ends_with(&file));
            assert!(there, "{}/{file} is missing: run `cargo xtask fuzz --seeds`", target.name);
        }
    }
}
