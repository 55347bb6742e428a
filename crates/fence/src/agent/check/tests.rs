use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::agent::fixture::script;

/// How long a busy machine may take.
const SOON: Duration = Duration::from_secs(30);

const PDU: &str = "cat <<'X'\n<resource-agent><parameters>\
    <parameter name='action' required='1'/><parameter name='plug' required='1' obsoletes='port'/>\
    <parameter name='port' required='1' deprecated='1'/><parameter name='ip' required='1' obsoletes='ipaddr'/>\
    <parameter name='ipaddr' required='1' deprecated='1'/><parameter name='username'/><parameter name='password'/></parameters>\
    <actions><action name='off'/><action name='status'/></actions></resource-agent>\nX";
const OLD: &str = "echo \"<resource-agent><parameters><parameter name='port'/></parameters>\
    <actions><action name='off'/></actions></resource-agent>\"";

/// What is found in a level with this agent and these keys, each without the text of the line.
fn found(dir: &Path, body: &str, keys: &str) -> (Vec<String>, Vec<String>) {
    let agent = script(dir, "fence_x", body);
    let file = dir.join("fenced.toml");
    let text = format!(
        "[resource.db]\nlast-level-may-fail = true\nfence = [\n\
         {{ driver = \"agent\", agent = \"{agent}\", within = \"9s\", {keys} }},\n]\n"
    );
    let config = Config::from_source(&Source::new(&file, text)).unwrap();
    let here = Here::new("paris1", "", "");
    let Findings { errors, warnings } = check_on(&config, &file, &here, SOON);
    let shown = |findings: Vec<Diagnostic>| {
        let (file, agent) = (file.display().to_string(), agent.clone());
        let line = |d: Diagnostic| {
            assert_eq!(
                (d.file().display().to_string(), d.line_column().map(|(line, _)| line)),
                (file.clone(), Some(4))
            );
            let prefix = "resource db, level 1: ";
            let cause = d.cause().strip_prefix(prefix).unwrap().replace(&agent, "fence_x");
            format!("{cause}; {}", d.advice().unwrap())
        };
        findings.into_iter().map(line).collect()
    };
    (shown(errors), shown(warnings))
}

#[test]
fn names_what_the_agent_does_not_take() {
    let dir = tempfile::tempdir().unwrap();
    let errors = |body, keys| {
        let (errors, warnings) = found(dir.path(), body, keys);
        assert_eq!(warnings, [""; 0]);
        errors
    };
    let right = "plugs = [\"1\"], options = { ipaddr = \"192.0.2.7\" }";
    assert_eq!(errors(PDU, right), [""; 0], "an older name will do");
    assert_eq!(
        errors(PDU, "options = { usrename = \"x\", pcmk_host_list = \"x\" }"),
        [
            "fence_x does not know the option `pcmk_host_list`; remove it: it is for Pacemaker, not for the agent",
            "fence_x does not know the option `usrename`; did you mean `username`?",
            "fence_x needs the option `ip`; write options = { ip = \"…\" }, or ip=… into the options file",
            "fence_x needs the option `plug`; write plugs = [\"…\"] with what it is to switch off",
        ]
    );
    let old = errors(OLD, "plugs = [\"1\"]");
    assert!(old[0].starts_with("fence_x does not offer the action `status`; "), "{old:?}");
    assert_eq!(old[1..], ["fence_x has no option `plug` to name a plug with; write plug-option = \"port\""]);
    assert_eq!(errors(OLD, "plugs = [\"1\"], plug-option = \"port\"").len(), 1);
}

#[test]
fn options_of_the_file_count_and_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secrets");
    let keys = "plugs = [\"1\"], options-file = \"secrets\"";
    fs::write(&file, "ip=192.0.2.7\npassword=hunter2\n").unwrap();
    let (errors, _) = found(dir.path(), PDU, keys);
    assert!(
        errors.len() == 1 && errors[0].contains("chmod 600"),
        "only the file is known to be wrong: {errors:?}"
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(found(dir.path(), PDU, keys), (vec![], vec![]));
    fs::remove_file(&file).unwrap();
    fs::write(&file, "passwort=hunter2\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let (errors, _) = found(dir.path(), PDU, keys);
    assert!(errors[0].contains("`passwort` in the options file; did you mean `password`?"), "{errors:?}");
    assert!(!format!("{errors:?}").contains("hunter2"));
}

#[test]
fn an_agent_that_says_nothing_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let (errors, warnings) = found(dir.path(), "exit 1", "options = { whatever = 1 }");
    assert_eq!(errors, [""; 0]);
    let said =
        "fence_x does not describe itself: it exited with code 1; its options are not checked; try it: ";
    assert!(warnings.len() == 1 && warnings[0].starts_with(said), "{warnings:?}");
}

#[test]
fn an_agent_aimed_at_this_host_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let aimed = |keys: &str| {
        let (_, warnings) = found(dir.path(), PDU, keys);
        warnings.iter().any(|warning| warning.contains("is aimed at this very host"))
    };
    for here in [
        "plugs = [\"paris2\", \"paris1\"]",
        "options = { port = \"PARIS1.example.com\" }",
        "options = { nodename = \"paris1\", ip = \"192.0.2.7\" }",
        "options = { ip = \"127.0.0.1\" }",
        "options = { ipaddr = \"paris1\" }",
    ] {
        assert!(aimed(here), "{here}");
    }
    for elsewhere in [
        "plugs = [\"1\"], options = { ip = \"paris1\" }",
        "options = { ip = \"192.0.2.7\", username = \"paris1\" }",
    ] {
        assert!(!aimed(elsewhere), "{elsewhere}");
    }
    fs::write(dir.path().join("where"), "plug=paris1\n").unwrap();
    fs::set_permissions(dir.path().join("where"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(aimed("options-file = \"where\""));
}
