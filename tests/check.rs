//! `sitegate check`: what it says of good and of doubtful configurations.

use std::fs;

use sitegate::pki::FormationCertificates;
use sitegate_check::{Checked, check, check_host};
use tempfile::TempDir;

const FORMATION: &str = concat!(
    include_str!("../crates/member/tests/acme.toml"),
    r#"
[ticket.db]
acquire-after = "45s"

[ticket.ledger]
acquire-after = "5s"
takeover = "confirmed"
"#
);

const MEMBER: &str = r#"name = "paris"
[tls]
ca = "pki/paris/ca.pem"
cert = "pki/paris/paris.pem"
key = "pki/paris/paris.key"
[ticket.db]
before-acquire = { command = ["/bin/sh", "-c", "exit 0"] }
"#;

const FENCED: &str = r#"[resource.db]
fence = [
  { driver = "command", command = ["/bin/sh", "-c", "exit 0"], within = "8s" },
  { driver = "reboot", within = "5s" },
]
[resource.ledger]
fence = [{ driver = "reboot", within = "5s" }]
"#;

/// A directory with these files, and certificates for everybody.
fn host(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let members = ["paris", "lyon", "tiebreak"].map(|name| name.parse().unwrap()).to_vec();
    let certificates = FormationCertificates::new("acme".parse().unwrap(), members, vec![]);
    certificates.make(&directory.path().join("pki")).unwrap();
    directory
}

fn checked(files: &[(&str, &str)]) -> Checked {
    check(host(files).path()).unwrap()
}

#[test]
fn shows_the_numbers() {
    let all = [("formation.toml", FORMATION), ("member.toml", MEMBER), ("fenced.toml", FENCED)];
    let checked = checked(&all);
    assert!(checked.is_good(), "{checked}");
    let shown = checked.to_string();
    let digest = &checked.digest[..12];
    assert_eq!(shown.replace(digest, "DIGEST"), include_str!("check/good.txt"));
    let json = serde_json::to_value(&checked).unwrap();
    assert_eq!(json["tickets"][0]["fencing"]["plan_ms"], 14_500);
    assert_eq!(json["tickets"][0]["fencing"]["acquire_after_min_ms"], 14_700);
    assert_eq!(json["tickets"][1]["failover_ms"], serde_json::Value::Null);
}

#[test]
fn a_plan_that_outlasts_acquire_after_is_a_problem() {
    let short = FORMATION.replace("\"45s\"", "\"10s\"");
    let checked = checked(&[("formation.toml", &short), ("member.toml", MEMBER), ("fenced.toml", FENCED)]);
    assert!(!checked.is_good());
    assert_eq!(
        checked.problems,
        [
            "ticket db: fencing may take 14.6s (14.5s plan + 100ms margin), longer than acquire-after·(1−ρ) = 9.99s; raise \
          acquire-after to 14.7s or more, or shorten the plan"
        ]
    );
}

#[test]
fn a_ticket_without_a_plan_is_a_problem_and_a_plan_without_a_ticket_a_warning() {
    let other = FENCED.replace("[resource.db]", "[resource.web]");
    let checked = checked(&[("formation.toml", FORMATION), ("member.toml", MEMBER), ("fenced.toml", &other)]);
    assert_eq!(
        checked.problems,
        [
            "ticket db: fenced.toml has no [resource.db], so this site could not fence it and never acquires it"
        ]
    );
    assert!(
        checked
            .warnings
            .contains(&"[resource.web] of fenced.toml belongs to no ticket of the formation".to_owned())
    );
}

#[test]
fn a_formation_file_alone_can_be_checked() {
    let checked = checked(&[("formation.toml", FORMATION)]);
    assert!(checked.is_good());
    assert_eq!((checked.me.as_deref(), checked.warnings.len()), (None, 0));
}

#[test]
fn what_is_missing_on_this_host_is_a_warning() {
    let member = MEMBER.replace("/bin/sh", "/nonexistent/ready").replace("paris.key", "none.key");
    let directory = host(&[("formation.toml", FORMATION), ("member.toml", &member)]);
    let checked = check(directory.path()).unwrap();
    let warnings = checked.warnings.join("\n").replace(&directory.path().display().to_string(), "DIR");
    assert!(warnings.starts_with("no fenced.toml here: nothing says how this site fences"), "{warnings}");
    assert!(warnings.contains("ticket db: ") && warnings.contains("/nonexistent/ready"), "{warnings}");
    assert!(warnings.contains("DIR/pki/paris/none.key: cannot be read"), "{warnings}");
}

#[test]
fn two_members_and_one_site_are_warned_about() {
    let tiebreak =
        FORMATION.find("[[member]]\nid = 2").unwrap()..FORMATION.find("[[member]]\nid = 3").unwrap();
    let mut two = FORMATION.to_owned();
    two.replace_range(tiebreak, "");
    let warnings = checked(&[("formation.toml", &two)]).warnings.join("\n");
    assert!(warnings.contains("2 members are a majority only together"), "{warnings}");
    assert!(warnings.contains("there is only one site"), "{warnings}");
}

#[test]
fn errors_of_all_files_come_at_once() {
    let files = [
        ("formation.toml", FORMATION.replace("id = 3", "id = 2")),
        ("member.toml", MEMBER.replace("\"paris\"", "\"rome\"")),
        ("fenced.toml", FENCED.replace("8s", "8 sec")),
    ];
    let directory = host(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
    let error = check(directory.path()).unwrap_err();
    let found: Vec<_> =
        error.diagnostics().iter().map(|one| one.file().file_name().unwrap().to_str().unwrap()).collect();
    // Who is a member cannot be said while the formation is in doubt.
    assert_eq!(found, ["fenced.toml", "formation.toml"]);
}

#[test]
fn the_shipped_examples_fit_together() {
    let checked = check(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/conf"))).unwrap();
    assert!(checked.is_good(), "{checked}");
}

/// Whether there is a systemd here or not: a unit that it does not know, or a systemd that cannot be asked, is told of.
#[test]
fn asks_systemd_about_the_units_that_a_ticket_gates() {
    const UNIT: &str = "sitegate-test-no-such-unit.service";
    let level = format!("{{ driver = \"systemd\", unit = \"{UNIT}\", within = \"8s\" }}");
    let fenced = FENCED.replacen("fence = [", &format!("fence = [\n  {level},"), 1);
    let formation = FORMATION.replace("45s", "60s");
    let host = host(&[("formation.toml", &formation), ("member.toml", MEMBER), ("fenced.toml", &fenced)]);
    let checked = check_host(host.path()).unwrap();
    assert!(checked.is_good(), "{checked}");
    let told =
        |warning: &String| warning.contains(UNIT) || warning.contains("units of systemd are not checked");
    assert!(checked.warnings.iter().any(told), "{checked}");
}
