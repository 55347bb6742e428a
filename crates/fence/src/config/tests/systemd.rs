use super::*;
use crate::systemd::{UnitName, Verb};

fn with(resource: &str) -> Result<Config, ConfigError> {
    load(&format!("[resource.db]\n{resource}\nlast-level-may-fail = true\n"))
}

const LEVEL: &str = "{ driver = \"systemd\", unit = \"db.target\", within = \"8s\" }";

#[test]
fn reads_units_of_systemd() {
    let config =
        with(&format!("start = {{ unit = \"db.target\", within = \"60s\" }}\nfence = [{LEVEL}]")).unwrap();
    let resource = &config.resources[&db()];
    let unit = UnitName::new("db.target").unwrap();
    assert_eq!(
        resource.plan.levels,
        [Level { driver: Driver::Systemd(unit.clone()), within: Duration::from_secs(8) }]
    );
    assert!(!resource.plan.certain());
    assert_eq!(resource.units(), [&unit, &unit]);
    assert_eq!(config.unusable_programs().len(), 0, "what asks systemd is the daemon's own program");
    let start = resource.start.as_ref().unwrap();
    assert_eq!(start.work, Work::Unit(unit));
    let (command, shown) = start.command(&db(), Verb::Start);
    assert_eq!(command[1..], ["systemd", "start", "db", "db.target", "60000"]);
    assert_eq!(shown, "systemd start db.target");
}

/// A receipt without it would say that nothing runs, while systemd runs it.
#[test]
fn what_systemd_starts_has_to_be_stopped_there() {
    let start = "start = { unit = \"db.target\", within = \"60s\" }";
    let command = "{ driver = \"command\", command = [\"/bin/true\"], within = \"1s\" }";
    for good in [LEVEL, "{ driver = \"reboot\" }", &format!("{LEVEL}, {command}")] {
        with(&format!("{start}\nfence = [{good}]")).unwrap();
    }
    let other = LEVEL.replace("db.target", "web.target");
    for bad in
        [command, &other, &format!("{command}, {{ driver = \"reboot\" }}"), &format!("{command}, {LEVEL}")]
    {
        let error = with(&format!("{start}\nfence = [{bad}]")).unwrap_err();
        let [diagnostic] = error.diagnostics() else { panic!("{error}") };
        assert!(diagnostic.cause().contains("does not begin with stopping it"), "{error}");
        assert_eq!(diagnostic.line_column().unwrap().0, 2, "{error}");
    }
    let error = with(&format!("{start}\nfence = []\nunfenced = true")).unwrap_err().to_string();
    assert!(error.contains("does not begin with stopping it"), "{error}");
}

#[test]
fn says_what_is_wrong_with_units() {
    for (resource, cause, hint) in [
        (
            "fence = [{ driver = \"systemd\", within = \"8s\" }]",
            "needs `unit` and `within`",
            "sitegate-ticket@",
        ),
        (
            "fence = [{ driver = \"systemd\", unit = \"db.target\" }]",
            "needs `unit` and `within`",
            "sitegate-ticket@",
        ),
        (
            "fence = [{ driver = \"systemd\", unit = \"multi-user.target\", within = \"8s\" }]",
            "belongs to the machine",
            "mydb.service",
        ),
        (
            "fence = [{ driver = \"reboot\", unit = \"db.target\" }]",
            "`unit` belongs to driver \"systemd\"",
            "remove",
        ),
        (
            "fence = [{ driver = \"reboot\" }]\nstop = { within = \"1s\" }",
            "neither `command` nor `unit`",
            "unit =",
        ),
        (
            "fence = [{ driver = \"reboot\" }]\nstop = { command = [\"/x\"], unit = \"a.service\", within = \"1s\" }",
            "both `command` and `unit`",
            "unit =",
        ),
        (
            "fence = [{ driver = \"reboot\" }]\nstop = { unit = \"mydb\", within = \"1s\" }",
            "not the name of a unit",
            "ending",
        ),
    ] {
        let error = with(resource).unwrap_err();
        let found = error.diagnostics().iter().any(|diagnostic| {
            diagnostic.cause().contains(cause) && diagnostic.advice().unwrap_or_default().contains(hint)
        });
        assert!(found, "{resource}\n\n{error}");
    }
}
