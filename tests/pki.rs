//! `sitegate pki` end to end: what it makes is what daemons and clients take, and nothing is overwritten.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;
use sitegate::pki::{Authority, FormationCertificates, PkiCommand, PkiError, run};
use sitegate_member::config::TlsFiles;
use sitegate_member::tls::{Credentials, Principal};
use tempfile::TempDir;

const FORMATION: &str = include_str!("../crates/member/tests/acme.toml");

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: PkiCommand,
}

/// Runs a command line in which `@` stands for the directory; gives its output, likewise.
fn pki(directory: &Path, line: &str) -> Result<String, String> {
    let name = directory.display().to_string();
    let words = line.replace('@', &name);
    let cli = Cli::try_parse_from(std::iter::once("pki").chain(words.split(' ')))
        .map_err(|error| error.to_string())?;
    let (mut out, mut talk) = (Vec::new(), Vec::new());
    let shown = |text: String| text.replace(&name, "@");
    match run(&cli.command, &mut out, &mut talk) {
        Ok(()) => Ok(shown(String::from_utf8([out, talk].concat()).unwrap())),
        Err(error @ PkiError::Input(_)) => Err(shown(error.to_string())),
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

fn initialised() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("formation.toml"), FORMATION).unwrap();
    pki(directory.path(), "init --formation @/formation.toml --out @/pki").unwrap();
    directory
}

fn pack(directory: &Path, pack: &str, name: &str) -> TlsFiles {
    let file = |name: String| directory.join("pki").join(pack).join(name);
    TlsFiles {
        ca: file("ca.pem".into()),
        cert: file(format!("{name}.pem")),
        key: file(format!("{name}.key")),
        crl: None,
        strict_expiry: true,
    }
}

#[test]
fn init_makes_all_that_a_formation_needs() {
    let directory = initialised();
    for (at, name, subject) in [
        ("paris", "paris", "sitegate://acme/member/paris"),
        ("tiebreak", "tiebreak", "sitegate://acme/member/tiebreak"),
        ("operator-admin", "admin", "sitegate://acme/operator/admin"),
    ] {
        let credentials = Credentials::load(&pack(directory.path(), at, name)).unwrap();
        assert_eq!(credentials.subject().to_string(), subject);
        let mut files: Vec<_> = fs::read_dir(directory.path().join("pki").join(at))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut expected = [format!("{name}.key"), format!("{name}.pem"), "ca.pem".to_owned()];
        expected.sort();
        assert_eq!(files, expected);
    }
    let mode = |file: &str| {
        fs::metadata(directory.path().join("pki").join(file)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("ca"), 0o700);
    assert_eq!(mode("ca/ca.key"), 0o600);
    assert_eq!(mode("paris/paris.key"), 0o600);
}

#[test]
fn validities_are_those_of_the_manual() {
    let directory = initialised();
    let json = pki(directory.path(), "show @/pki --json").unwrap();
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    let days: Vec<_> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["file"].as_str().unwrap(), one["days_left"].as_i64().unwrap()))
        .collect();
    assert_eq!(
        days,
        [
            ("@/pki/ca/ca.pem", 7304),
            ("@/pki/lyon/lyon.pem", 1825),
            ("@/pki/operator-admin/admin.pem", 364),
            ("@/pki/paris/paris.pem", 1825),
            ("@/pki/tiebreak/tiebreak.pem", 1825),
        ]
    );
    let paris = &shown[3];
    assert_eq!(paris["subject"], "sitegate://acme/member/paris");
    assert_eq!(
        (&paris["standing"], &paris["signed_by_ca"], &paris["key"]["matches"]),
        (&"valid".into(), &true.into(), &true.into())
    );
    assert_eq!(paris["fingerprint_sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn nothing_is_overwritten() {
    let directory = initialised();
    let key = fs::read(directory.path().join("pki/ca/ca.key")).unwrap();
    let again = pki(directory.path(), "init --formation @/formation.toml --out @/pki").unwrap_err();
    assert_eq!(
        again,
        "error: @/pki/ca: is there already, and nothing is overwritten\n\
         hint: use `sitegate pki issue` and `renew` with the CA that is there, or another directory for a new one"
    );
    let other = pki(directory.path(), "issue --pki @/pki --operator admin").unwrap_err();
    assert!(other.starts_with("error: @/pki/operator-admin: is there already"), "{other}");
    // A directory that is in the way stops it before it makes anything.
    fs::create_dir_all(directory.path().join("new/tiebreak")).unwrap();
    let blocked = pki(directory.path(), "init --formation @/formation.toml --out @/new").unwrap_err();
    assert!(blocked.starts_with("error: @/new/tiebreak: is there already"), "{blocked}");
    assert!(!directory.path().join("new/ca").exists());
    assert_eq!(fs::read(directory.path().join("pki/ca/ca.key")).unwrap(), key);
}

#[test]
fn issue_makes_one_more() {
    let directory = initialised();
    pki(directory.path(), "issue --pki @/pki --viewer grafana --days 90").unwrap();
    let viewer = Credentials::load(&pack(directory.path(), "viewer-grafana", "grafana")).unwrap();
    assert_eq!(viewer.subject().principal, Principal::Viewer("grafana".parse().unwrap()));
    assert_eq!(viewer.reports()[0].validity.days_left(std::time::SystemTime::now()), 89);
    let neither = pki(directory.path(), "issue --pki @/pki").unwrap_err();
    assert!(neither.contains("<--member <NAME>|--operator <NAME>|--viewer <NAME>>"), "{neither}");
    let long = pki(directory.path(), "issue --pki @/pki --member rome --days 7306").unwrap_err();
    assert!(long.contains("7306 is not in 1..=7305"), "{long}");
    let bad = pki(directory.path(), "issue --pki @/pki --member ro/me").unwrap_err();
    assert!(bad.contains("`/` in the name of a member"), "{bad}");
    // As long as the CA itself, and no longer.
    let cut = pki(directory.path(), "issue --pki @/pki --member rome --days 7305").unwrap();
    assert!(cut.contains("warning: the certificate of member rome ends with the CA, in 7304 days"), "{cut}");
}

#[test]
fn renew_keeps_the_old_ones() {
    let directory = initialised();
    let at = directory.path().join("pki/paris");
    let read = |file: &str| fs::read(at.join(file)).unwrap();
    let (certificate, key) = (read("paris.pem"), read("paris.key"));
    pki(directory.path(), "renew --pki @/pki @/pki/paris").unwrap();
    assert_eq!((read("paris.pem.old"), read("paris.key.old")), (certificate, key.clone()));
    assert_ne!(read("paris.key"), key);
    Credentials::load(&pack(directory.path(), "paris", "paris")).unwrap();

    let key = read("paris.key");
    pki(directory.path(), "renew --pki @/pki @/pki/paris --keep-key --days 10").unwrap();
    assert_eq!(read("paris.key"), key);
    let credentials = Credentials::load(&pack(directory.path(), "paris", "paris")).unwrap();
    assert_eq!(credentials.reports()[0].validity.days_left(std::time::SystemTime::now()), 9);
}

#[test]
fn revoked_certificates_are_refused_and_renewed_ones_are_not() {
    let directory = initialised();
    let said =
        pki(directory.path(), "revoke --pki @/pki @/pki/paris @/pki/operator-admin/admin.pem").unwrap();
    assert!(said.starts_with("@/pki/ca/crl.pem: the certificate of member paris is revoked\n"), "{said}");
    let again = pki(directory.path(), "revoke --pki @/pki @/pki/paris").unwrap();
    assert!(again.contains("the certificate of member paris was revoked before"), "{again}");

    let with_list = |at: &str, name: &str| {
        let crl = Some(directory.path().join("pki/ca/crl.pem"));
        Credentials::load(&TlsFiles { crl, ..pack(directory.path(), at, name) })
    };
    let error = with_list("paris", "paris").unwrap_err().to_string();
    assert!(error.contains("the certificate of member paris was revoked"), "{error}");
    assert!(with_list("operator-admin", "admin").is_err());
    assert!(with_list("tiebreak", "tiebreak").is_ok());
    pki(directory.path(), "renew --pki @/pki @/pki/paris").unwrap();
    assert!(with_list("paris", "paris").is_ok());
}

#[test]
fn what_does_not_fit_is_named() {
    let directory = initialised();
    let at = |file: &str| directory.path().join("pki").join(file);
    fs::copy(at("tiebreak/tiebreak.key"), at("paris/paris.key")).unwrap();
    let shown = pki(directory.path(), "show @/pki/paris").unwrap();
    assert!(shown.contains("  key          @/pki/paris/paris.key: DOES NOT MATCH\n"), "{shown}");

    fs::set_permissions(at("ca/ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = pki(directory.path(), "issue --pki @/pki --member rome").unwrap_err();
    assert_eq!(
        open,
        "error: @/pki/ca/ca.key: the key of the CA has mode 0644: others than its owner can get at it\n\
         hint: run `chmod 600 @/pki/ca/ca.key`; if they may have read it, make a new CA"
    );
    fs::set_permissions(at("ca/ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::copy(at("tiebreak/tiebreak.key"), at("ca/ca.key")).unwrap();
    let wrong = pki(directory.path(), "issue --pki @/pki --member rome").unwrap_err();
    assert!(wrong.starts_with("error: @/pki/ca/ca.key: this is not the key of @/pki/ca/ca.pem"), "{wrong}");
    let none = pki(directory.path(), "issue --pki @/none --member rome").unwrap_err();
    assert!(none.contains("hint: make a CA with `sitegate pki init`"), "{none}");
    let empty = pki(directory.path(), "show @").unwrap_err();
    assert!(empty.starts_with("error: @: there are no certificates in this directory\nhint: "), "{empty}");
}

#[test]
fn certificates_of_another_formation_are_not_renewed_or_revoked() {
    let (ours, theirs) = (initialised(), tempfile::tempdir().unwrap());
    let other = FormationCertificates::new("other".parse().unwrap(), vec!["rome".parse().unwrap()], vec![]);
    let (authority, packs) = other.make(&theirs.path().join("pki")).unwrap();
    assert_eq!(authority.formation().as_str(), "other");
    assert_eq!(Authority::load(&theirs.path().join("pki")).unwrap().certificate(), authority.certificate());
    Credentials::load(&packs[0].files()).unwrap();
    for command in ["renew", "revoke"] {
        let line = format!("{command} --pki @/pki {}", packs[0].directory.display());
        let error = pki(ours.path(), &line).unwrap_err();
        assert!(
            error.contains("this is sitegate://other/member/rome, but the CA is that of formation acme"),
            "{error}"
        );
    }
}
