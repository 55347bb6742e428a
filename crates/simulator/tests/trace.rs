//! The main exchanges of the protocol, as text that reads as documentation: `tests/trace/*.txt`.
//! `UPDATE_GOLDEN=1 cargo test -p sitegate-simulator --test trace` writes them anew.

use std::path::PathBuf;

use sitegate_simulator::script::{SCENES, play};

fn golden(scene: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/trace").join(scene).with_extension("txt")
}

#[test]
fn exchanges_are_as_written_down() {
    for scene in SCENES {
        let told = play(scene);
        let path = golden(scene);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &told).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(told, written, "{} is not what happens", path.display());
    }
}
