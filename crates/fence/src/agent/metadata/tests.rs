use super::*;
use crate::agent::fixture::script;

/// How long a busy machine may take.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn reads_what_agents_say() {
    // As fence_apc of version 4.12 says it, shortened.
    let text = r#"<?xml version="1.0" ?>
<resource-agent name="fence_apc" shortdesc="Fence agent for APC over telnet/ssh" >
<longdesc>a &lt; b</longdesc>
<parameters>
	<parameter name="action" unique="0" required="1">
		<content type="string" default="reboot"  />
	</parameter>
	<parameter name="ip" unique="0" required="1" obsoletes="ipaddr"><content type="string"  /></parameter>
	<parameter name="ipaddr" unique="0" required="1" deprecated="1"><content type="string"  /></parameter>
	<parameter name="cmd_prompt" required="1"><content type="string" default="['&gt;']"  /></parameter>
</parameters>
<actions>
	<action name="on" automatic="0"/>
	<action name="off" />
	<action name="status" />
</actions>
</resource-agent>"#;
    let metadata = Metadata::parse(text).unwrap();
    let required: Vec<_> =
        metadata.parameters.iter().filter(|(_, p)| p.required).map(|(n, _)| n.as_str()).collect();
    assert_eq!(required, ["ip"]);
    assert_eq!(metadata.actions, ["off", "on", "status"].map(str::to_owned).into());
    for name in ["ip", "ipaddr"] {
        assert_eq!(metadata.names(name), ["ip", "ipaddr"].into());
    }
    assert_eq!(metadata.names("cmd_prompt"), ["cmd_prompt"].into());
}

#[test]
fn what_is_no_description_is_told() {
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><resource-agent name=\"&b;\"/>";
    let many = format!("<resource-agent>{}</resource-agent>", "<a/>".repeat(100_000));
    let deep = format!("<resource-agent>{}", "<a>".repeat(300_000));
    for (text, why) in [
        ("", "document"),
        ("Traceback (most recent call last):", ""),
        ("<html/>", "begins with <html>"),
        (bomb, "DTD"),
        (many.as_str(), "nodes"),
        (deep.as_str(), "deeper than 32"),
    ] {
        let error = Metadata::parse(text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn says_why_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    for (body, why) in [
        (
            "echo 'No module named pexpect' >&2; exit 1",
            "exited with code 1; it wrote: No module named pexpect",
        ),
        ("kill -9 $$", "signal: 9"),
        ("echo '<html/>'", "in no XML that can be used: it begins with <html>"),
        ("printf '\\377'", "in no UTF-8"),
        ("yes", "more than 1048576 bytes"),
        ("yes >&2", "did not describe itself in time"),
        ("sleep 3600", "did not describe itself in time"),
    ] {
        let within = if why.contains("in time") { Duration::from_millis(300) } else { SOON };
        let program = script(dir.path(), "fence_x", body);
        let error = Metadata::ask(Path::new(&program), within).unwrap_err();
        assert!(error.contains(why), "{body}: {error}");
    }
    let error = Metadata::ask(&dir.path().join("absent"), SOON).unwrap_err();
    assert!(error.contains("does not exist"), "{error}");
}

#[test]
fn does_not_wait_for_what_an_agent_leaves() {
    let dir = tempfile::tempdir().unwrap();
    // It holds the pipes, and is killed with the group.
    let body = "read -r asked; sleep 3600 & echo \"<resource-agent name='$asked'><actions><action name='off'/></actions></resource-agent>\"";
    let program = script(dir.path(), "fence_x", body);
    let began = Instant::now();
    let metadata = Metadata::ask(Path::new(&program), SOON * 10).unwrap();
    assert!(began.elapsed() < SOON);
    assert_eq!(metadata.actions, ["off".to_owned()].into());
}
