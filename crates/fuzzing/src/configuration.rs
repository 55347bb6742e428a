//! All three configuration files. Each parser gets each text.

use sitegate_fence::config::Config;
use sitegate_host::diagnostic::{ConfigError, Source};
use sitegate_member::config::{Configuration, Formation, FormationDigest, Local};
use sitegate_member::settings::settings;

use crate::fixture::{self, no_files};

/// A file is taken, and then makes sense; or refused, with words for everything that is wrong.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let acme = fixture::formation();
    match Formation::parse(&Source::new("formation.toml", text)) {
        Ok(formation) => {
            assert!(formation.majority() * 2 > formation.members.len());
            let _ = FormationDigest::of(&formation);
            let local = fixture::configuration("paris", &no_files()).local;
            let me = formation.members[0].name.clone();
            let _ = settings(&Configuration { local: Local { name: me, ..local }, formation }, None);
        }
        Err(error) => in_words(&error),
    }
    match Local::parse(&Source::new("member.toml", text), Some(&acme)) {
        Ok(local) => assert!(acme.member(&local.name).is_some(), "it is one of us"),
        Err(error) => in_words(&error),
    }
    match Config::from_source(&Source::new("fenced.toml", text)) {
        Ok(config) => {
            for name in config.resources.keys() {
                assert!(config.fenced_within(name) <= Some(config.all_fenced_within(None)));
            }
        }
        Err(error) => in_words(&error),
    }
}

fn in_words(error: &ConfigError) {
    assert!(!error.diagnostics().is_empty() && !error.to_string().is_empty());
}

/// The examples that packages ship, and files with every kind of mistake.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let text = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    vec![
        text("formation", include_str!("../../../conf/formation.toml")),
        text("member", include_str!("../../../conf/member.toml")),
        text("arbitrator", include_str!("../../../conf/arbitrator.toml")),
        text("fenced", include_str!("../../../conf/fenced.toml")),
        text("acme", fixture::FORMATION),
        text("short", "name = \"paris\"\n[tls]\nca = \"/a\"\ncert = \"/b\"\nkey = \"/c\"\n"),
        text(
            "wrong",
            "formation = \"Ä\"\nheartbeat = \"1 fortnight\"\n[[member]]\nid = 300\n[ticket.\"ü\"]\nexpire = -1\n",
        ),
        text("broken", "[tls\nca = \"\u{1F600}\n\n\t= ="),
    ]
}
