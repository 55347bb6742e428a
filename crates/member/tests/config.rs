//! Configuration files: the shipped examples, and every kind of bad input with the text that a user gets to see.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sitegate_host::diagnostic::{ConfigError, Source};
use sitegate_member::config::{Configuration, Formation, FormationDigest, Listen, Local, Role, Takeover};

const FORMATION: &str = concat!(
    include_str!("acme.toml"),
    r#"
[ticket-defaults]
acquire-after = "45s"

[ticket.db]
order = ["paris", "lyon"]
"#
);

const MEMBER: &str = r#"name = "paris"

[tls]
ca = "pki/ca.pem"
cert = "pki/paris.pem"
key = "pki/paris.key"

[ticket.db]
before-acquire = { command = ["/etc/sitegate/db-ready"], within = "5s" }
check = { command = ["/etc/sitegate/db-healthy"] }
"#;

fn formation(text: &str) -> Result<Formation, ConfigError> {
    Formation::parse(&Source::new("formation.toml", text))
}

fn member(text: &str) -> Result<Local, ConfigError> {
    let formation = formation(FORMATION).expect("the formation is good");
    Local::parse(&Source::new("/etc/sitegate/member.toml", text), Some(&formation))
}

/// The good formation with `from`, which it has once, replaced by `to`: what a user would see.
fn broken_formation(from: &str, to: &str) -> String {
    formation(&replaced(FORMATION, from, to)).expect_err("this is a broken formation").to_string()
}

fn broken_member(from: &str, to: &str) -> String {
    member(&replaced(MEMBER, from, to)).expect_err("this is a broken member file").to_string()
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

#[test]
fn defaults_are_those_of_the_manual() {
    let formation = formation(FORMATION).unwrap();
    assert_eq!(formation.heartbeat, Duration::from_secs(1));
    assert_eq!(formation.rtt_max, Duration::from_millis(250));
    assert_eq!(formation.max_clock_drift.ppm(), 1000);
    assert!(formation.trust_disk);
    assert_eq!(formation.majority(), 2);
    assert_eq!(formation.sites().count(), 2);
    // (60 s + 45 s) · 1.001, in whole seconds.
    assert_eq!(formation.recovery_wait, Duration::from_secs(106));
    let (_, db) = formation.tickets.first_key_value().unwrap();
    assert_eq!((db.expire, db.acquire_after), (Duration::from_secs(60), Duration::from_secs(45)));
    assert_eq!((db.takeover, db.failback, db.takeover_limit.get()), (Takeover::Timed, false, 3));

    let local = member(MEMBER).unwrap();
    assert_eq!(local.state_dir, PathBuf::from("/var/lib/sitegate"));
    assert_eq!(local.socket, PathBuf::from("/run/sitegate/sitegate.sock"));
    assert_eq!(local.tls.ca, PathBuf::from("/etc/sitegate/pki/ca.pem"), "relative to the file");
    assert_eq!(local.listen, Listen::Everywhere(9929));
    let (_, db) = local.tickets.first_key_value().unwrap();
    let check = db.check.as_ref().unwrap();
    assert_eq!((check.every, check.hook.within), (Duration::from_secs(10), Duration::from_secs(5)));
    assert_eq!(check.failures.get(), 3);
    assert_eq!(db.check_hold, Duration::from_secs(600));
}

#[test]
fn order_ends_with_the_sites_it_does_not_name() {
    let order = |written: &str| {
        let formation = formation(&replaced(FORMATION, "order = [\"paris\", \"lyon\"]", written)).unwrap();
        let (_, db) = formation.tickets.first_key_value().unwrap();
        db.order.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(order(""), ["paris", "lyon"]);
    assert_eq!(order("order = [\"lyon\"]"), ["lyon", "paris"]);
}

#[test]
fn shipped_examples_are_good() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf");
    let site = Configuration::load(&conf).unwrap();
    assert_eq!(site.me().role, Role::Site);
    assert_eq!(site.formation.tickets.len(), 1);
    let arbitrator = Source::read(&conf.join("arbitrator.toml")).unwrap();
    let arbitrator = Local::parse(&arbitrator, Some(&site.formation)).unwrap();
    assert_eq!(site.formation.member(&arbitrator.name).unwrap().role, Role::Arbitrator);
}

#[test]
fn digest_is_of_the_meaning() {
    let plain = formation(FORMATION).unwrap();
    let rewritten =
        replaced(FORMATION, "[ticket.db]", "# a comment\n[ticket.db]\nexpire = \"1m\"\ntakeover = \"timed\"");
    let rewritten = formation(&rewritten).unwrap();
    assert_eq!(FormationDigest::of(&plain), FormationDigest::of(&rewritten));

    let slower = replaced(FORMATION, "acquire-after = \"45s\"", "acquire-after = \"46s\"");
    let slower = formation(&slower).unwrap();
    assert_ne!(FormationDigest::of(&plain), FormationDigest::of(&slower));
    assert_eq!(FormationDigest::of_id_map(&plain), FormationDigest::of_id_map(&slower));

    let renumbered = formation(&replaced(FORMATION, "id = 3", "id = 4")).unwrap();
    assert_ne!(FormationDigest::of_id_map(&plain), FormationDigest::of_id_map(&renumbered));
    assert_eq!(FormationDigest::of(&plain).to_string().len(), 64);
    assert_eq!(FormationDigest::of(&plain).short(), FormationDigest::of(&plain).to_string()[..12]);
}

/// Members of different versions must agree on it: it changes only together with its first line.
#[test]
fn digest_stays_the_same_across_versions() {
    let digest = FormationDigest::of(&formation(FORMATION).unwrap());
    assert_eq!(digest.to_string(), "082fc32794030a940cf5096bd4c56670e4a3e04e415bdf92720ab083100c0823");
}

/// `tests/config/errors.txt` shows what a user sees of every kind of bad input. `UPDATE_GOLDEN=1` writes it anew.
#[test]
fn bad_input_gets_clear_errors() {
    let mut shown = String::new();
    for (title, error) in bad_formations().into_iter().chain(bad_member_files()) {
        shown += &format!("== {title}\n\n{error}\n\n");
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/errors.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &shown).unwrap();
    }
    assert_eq!(shown, std::fs::read_to_string(&golden).unwrap(), "differs from {}", golden.display());
}

/// Puts a line in front of the first table.
fn with_top_line(line: &str) -> String {
    let text = FORMATION.replacen("\n[[member]]", &format!("{line}\n\n[[member]]"), 1);
    formation(&text).expect_err("this is a broken formation").to_string()
}

fn bad_formations() -> Vec<(&'static str, String)> {
    let bad = broken_formation;
    let order = "order = [\"paris\", \"lyon\"]";
    let acquire_after = "acquire-after = \"45s\"";
    let sixteen: String = (1..=16)
        .map(|id| {
            format!("[[member]]\nid = {id}\nname = \"m{id}\"\nrole = \"site\"\naddress = [\"m{id}\"]\n")
        })
        .collect();
    let only =
        |members: &str| formation(&format!("formation = \"acme\"\n{members}")).unwrap_err().to_string();
    let one = &sixteen[..sixteen[1..].find("[[").unwrap() + 1];
    let no_site = FORMATION.replace("\"site\"", "\"arbitrator\"").replace(order, "");
    vec![
        ("unknown keys", bad(acquire_after, "acquire_after = \"45s\"\nexpires = \"60s\"\nquorum = 2")),
        ("wrong units", bad(acquire_after, "expire = \"1 minute\"\nacquire-after = 45")),
        ("wrong unit of clock drift", with_top_line("max-clock-drift = \"0.1%\"")),
        ("inequality 1, by one ticket", bad("[ticket.db]", "[ticket.db]\nexpire = \"3s\"")),
        ("inequality 1, by the heartbeat", with_top_line("heartbeat = \"20s\"")),
        ("heartbeat out of range", with_top_line("heartbeat = \"5m\"")),
        ("recovery-wait too short", with_top_line("recovery-wait = \"1m\"")),
        ("acquire-after not written", bad(acquire_after, "")),
        ("takeover-limit of 0", bad(acquire_after, "acquire-after = \"45s\"\ntakeover-limit = 0")),
        ("two members with one id", bad("id = 2", "id = 1")),
        ("two members with one name", bad("name = \"tiebreak\"", "name = \"lyon\"")),
        (
            "two members with one address",
            bad("\"lyon.example.net\"", "\"PARIS.example.net:9929\", \"l\", \"l\""),
        ),
        ("no majority possible", only(one)),
        ("too many members", only(&sixteen)),
        ("no site", formation(&no_site).unwrap_err().to_string()),
        ("no address", bad("[\"lyon.example.net\"]", "[]")),
        ("bad address", bad("\"lyon.example.net\"", "\"lyon.example.net:99999\", \"192.0.2.300\"")),
        ("id out of range", bad("id = 3", "id = 0")),
        ("unknown role", bad("\"arbitrator\"", "\"arbiter\"")),
        ("bad ticket name", bad("[ticket.db]", "[ticket.\"d b\"]")),
        ("bad order", bad(order, "order = [\"pari\", \"tiebreak\", \"lyon\", \"lyon\"]")),
        ("empty order", bad(order, "order = []")),
        ("ticket written twice", bad("[ticket.db]", "[ticket.db]\norder = []\n[ticket.db]")),
        ("broken TOML", bad("name = \"lyon\"", "name = \"lyon")),
        ("empty file", formation("").unwrap_err().to_string()),
    ]
}

fn bad_member_files() -> Vec<(&'static str, String)> {
    let bad = broken_member;
    let name = "name = \"paris\"";
    let long = format!("socket = \"{}.sock\"\n[tls]", "x".repeat(100));
    vec![
        ("host that is no member", bad(name, "name = \"pariss\"")),
        ("arbitrator with hooks and fencing", bad(name, "name = \"tiebreak\"\nfence-socket = \"/run/f\"")),
        ("unknown key in a hook", bad("within = \"5s\"", "timeout = \"5s\"")),
        ("ticket that the formation does not have", bad("[ticket.db]", "[ticket.bd]")),
        ("relative command", bad("\"/etc/sitegate/db-healthy\"", "\"db-healthy\"")),
        ("empty command", bad("[\"/etc/sitegate/db-healthy\"]", "[]")),
        ("check longer than its period", bad("db-healthy\"]", "db-healthy\"], within = \"1m\"")),
        ("hook without time", bad("\"5s\"", "\"0s\"")),
        ("no certificate", bad("cert = \"pki/paris.pem\"\n", "")),
        ("log", bad("[tls]", "[log]\nformat = \"xml\"\nfilter = \"info,=,\"\n[tls]")),
        ("log filter", bad("[tls]", "[log]\nfilter = \"info,=,\"\n[tls]")),
        ("listen on a name", bad("[tls]", "listen = [\"paris:9929\"]\n[tls]")),
        ("socket with a long path", bad("[tls]", &long)),
    ]
}

#[test]
fn both_files_are_reported_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let heads = || -> Vec<String> {
        let error = Configuration::load(directory.path()).unwrap_err();
        let shown = error.diagnostics().iter().map(|diagnostic| {
            let file = diagnostic.file().file_name().unwrap().to_str().unwrap();
            format!("{file}: {}", diagnostic.cause())
        });
        shown.collect()
    };
    assert_eq!(
        heads(),
        [
            "formation.toml: cannot be read: No such file or directory (os error 2)",
            "member.toml: cannot be read: No such file or directory (os error 2)"
        ]
    );
    let write = |file: &str, text: String| std::fs::write(directory.path().join(file), text).unwrap();
    write("formation.toml", replaced(FORMATION, "id = 3", "id = 2"));
    write("member.toml", replaced(MEMBER, "\"5s\"", "5"));
    assert_eq!(
        heads(),
        ["formation.toml: `lyon` has the id 2 already", "member.toml: the length of time 5 has no unit"]
    );
}

/// The manual has every key: those that a parser names as known to it.
#[test]
fn the_manual_lists_every_key() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let bogus = "zzzzzzzzzzzzzzzz = 1";
    let files = [
        with_top_line(bogus),
        broken_formation("id = 1", &format!("id = 1\n{bogus}")),
        broken_formation("[ticket.db]", &format!("[ticket.db]\n{bogus}")),
        broken_member("[tls]", &format!("{bogus}\n[tls]")),
        broken_member("[tls]", &format!("[tls]\n{bogus}")),
        broken_member("[tls]", &format!("[log]\n{bogus}\n[tls]")),
        broken_member("[ticket.db]", &format!("[ticket.db]\n{bogus}")),
        broken_member("within = \"5s\"", "zzzzzzzzzzzzzzzz = 1"),
        broken_member("db-healthy\"]", "db-healthy\"], zzzzzzzzzzzzzzzz = 1"),
    ];
    for shown in files {
        let (_, keys) = shown.split_once("hint: known here: ").expect("an unknown key lists the known ones");
        for key in keys.split(", ") {
            let listed = [format!("`{key}`"), format!(".{key}`"), format!("[{key}]"), format!("[{key}.")];
            assert!(listed.iter().any(|form| manual.contains(form)), "`{key}` of: {keys}");
        }
    }
}
