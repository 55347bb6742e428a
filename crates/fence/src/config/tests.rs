use super::raw::level::DEFAULT_REBOOT_WITHIN;
use super::*;
use crate::agent::Agent;
use crate::plan::{Level, Program, RebootMethod};

mod systemd;

fn load(text: &str) -> Result<Config, ConfigError> {
    Config::from_source(&Source::new("fenced.toml", text))
}

fn db() -> Name {
    Name::new("db").unwrap()
}

const EXAMPLE: &str = r#"
[resource.db]
start = { command = ["/etc/sitegate/db-start"], within = "60s" }
stop = { command = ["/etc/sitegate/db-stop"], within = "5m" }
fence = [
  { driver = "command", command = ["/etc/sitegate/db-kill", "-9"], within = "8s" },
  { driver = "reboot" },
]
"#;

#[test]
fn reads_the_example_of_the_design() {
    let config = load(EXAMPLE).unwrap();
    assert_eq!(config.socket, Path::new("/run/sitegate-fenced/fenced.sock"));
    assert_eq!(config.containment, ContainmentChoice::Auto);
    let db = &config.resources[&db()];
    assert_eq!(db.stop.as_ref().unwrap().within, Duration::from_secs(300));
    let command = ["/etc/sitegate/db-kill", "-9"].map(str::to_owned).to_vec();
    assert_eq!(
        db.plan.levels,
        [
            Level {
                driver: Driver::Command(Program { command, check: None }),
                within: Duration::from_secs(8)
            },
            Level { driver: Driver::Reboot(RebootMethod::Syscall), within: DEFAULT_REBOOT_WITHIN },
        ]
    );
}

#[test]
fn says_how_long_fencing_takes() {
    let mut config = load(EXAMPLE).unwrap();
    // A kill, then 8 s and 5 s, each with a kill after it.
    assert_eq!(config.fenced_within(&db()), Some(Duration::from_millis(500 + 8500 + 5500)));
    assert_eq!(config.all_fenced_within(None), Duration::from_millis(500 + 14_000));
    config.concurrency = NonZeroUsize::new(2).unwrap();
    assert_eq!(config.all_fenced_within(Some(5)), Duration::from_millis(500 + 3 * 14_000));
}

#[test]
fn the_watchdog_comes_after_a_plan_that_should_have_been_over() {
    let watched = |fence: &str| {
        let text = format!("[watchdog]\ntimeout = \"10s\"\n[resource.db]\nfence = [{fence}]\n");
        load(&text).unwrap()
    };
    let config = watched("{ driver = \"reboot\", within = \"5s\" }");
    assert_eq!(config.watchdog.as_ref().unwrap().device, Path::new("/dev/watchdog"));
    assert_eq!(config.over_within(), Duration::from_millis(500 + 5500));
    assert_eq!(config.all_fenced_within(None), Duration::from_millis(500 + 5500 + 11_000));
    assert_eq!(config.fenced_within(&db()), Some(config.all_fenced_within(None)));
    // A level of its own has that time already.
    let config = watched("{ driver = \"watchdog\" }");
    assert_eq!(config.all_fenced_within(None), Duration::from_millis(500 + 11_000 + 500));
    assert!(config.resources[&db()].plan.certain());
}

#[test]
fn reads_every_key() {
    let config = load(
        r#"
        state-dir = "/s"
        runtime-dir = "/r"
        socket = "/x/sock"
        site = "paris"
        concurrency = 3
        kill-within = "100ms"
        allow-uid = [990]
        containment = "cgroup"
        cgroup-parent = "/sys/fs/cgroup/sitegate"
        [log]
        format = "json"
        filter = "debug"
        [resource."a/x"]
        fence = [{ driver = "command", command = ["/bin/true"], within = "1s" }]
        last-level-may-fail = true
        [resource.b]
        fence = []
        unfenced = true
        [resource.c]
        fence = [{ driver = "reboot", method = "sysrq", within = "2s" }]
        "#,
    )
    .unwrap();
    assert_eq!(config.socket, Path::new("/x/sock"));
    assert_eq!(config.log, Log { format: LogFormat::Json, filter: "debug".to_owned() });
    assert_eq!(config.site, Some(Name::new("paris").unwrap()));
    assert_eq!((config.concurrency.get(), config.allow_uid), (3, vec![990]));
    assert_eq!(config.kill_within, Duration::from_millis(100));
    assert_eq!(config.containment, ContainmentChoice::Cgroup(Some("/sys/fs/cgroup/sitegate".into())));
    assert!(config.resources[&Name::new("b").unwrap()].plan.levels.is_empty());
    let reboot = &config.resources[&Name::new("c").unwrap()].plan.levels[0];
    assert_eq!(reboot.driver, Driver::Reboot(RebootMethod::Sysrq));
}

#[test]
fn shows_line_cause_and_fix() {
    for (text, line, cause, hint) in [
        ("", None, "no resource", "[resource.NAME]"),
        (
            "cgroup-parent = \"x\"\n[resource.db]\nfence = [{ driver = \"reboot\" }]",
            Some(1),
            "no absolute path",
            "from /",
        ),
        (
            "[resource.db]\nfence = [{ driver = \"watchdog\" }]",
            Some(2),
            "without a watchdog",
            "add [watchdog]",
        ),
        (
            "[watchdog]\ntimeout = \"1500ms\"\n[resource.db]\nfence = [{ driver = \"reboot\" }]",
            Some(2),
            "whole seconds",
            "10s",
        ),
        (
            "[watchdog]\ntimeout = \"10s\"\n[resource.db]\nfence = [{ driver = \"watchdog\", within = \"9s\" }]",
            Some(4),
            "over before the watchdog",
            "11 s or more",
        ),
        (
            "[log]\nfilter = \"=;=\"\n[resource.db]\nfence = [{ driver = \"reboot\" }]",
            Some(2),
            "not a log filter",
            "debug",
        ),
        ("[resource.db]\nfence = []", Some(2), "an empty `fence`", "unfenced = true"),
        (
            "[resource.db]\nfence = [{ driver = \"reboot\" }]\nunfenced = true",
            Some(3),
            "`unfenced`",
            "remove",
        ),
        (
            "[resource.db]\nfence = [{ driver = \"command\", command = [\"/x\"], within = \"1s\" }]",
            Some(2),
            "can fail",
            "last-level-may-fail = true",
        ),
        (
            "[resource.db]\nfence = [{ driver = \"command\" }, { driver = \"reboot\" }]",
            Some(2),
            "needs `command`",
            "within",
        ),
        (
            "[resource.db]\nfence = [{ driver = \"agent\", plugs = [\"a\"] }, { driver = \"reboot\" }]",
            Some(2),
            "needs `agent` and `within`",
            "fence_ipmilan",
        ),
        ("[resource.db]\nfence = [{ driver = \"ipmi\" }]", Some(2), "unknown value `ipmi`", "command"),
        (
            "[resource.db]\nfense = []\nfence = [{ driver = \"reboot\" }]",
            Some(2),
            "unknown key `fense`",
            "fence",
        ),
        ("[resource.\"a b\"]\nfence = [{ driver = \"reboot\" }]", Some(1), "no resource name", ""),
        (
            "[resource.db]\nfence = [{ driver = \"reboot\" }]\nstart = { command = [\"start\"], within = \"8 sec\" }",
            Some(3),
            "is not a unit of time",
            "8s",
        ),
        (
            "[resource.db]\nfence = [{ driver = \"reboot\" }]\nstart = { command = [\"start\"], within = \"0s\" }",
            Some(3),
            "no absolute path",
            "no shell",
        ),
        (
            "[resource.db]\nfence = [{ driver = \"reboot\" }]\nstop = { command = [], within = \"1s\" }",
            Some(3),
            "an empty command",
            "[\"/path",
        ),
        (
            "containment = \"tree\"\ncgroup-parent = \"/x\"\n[resource.db]\nfence = [{ driver = \"reboot\" }]",
            Some(2),
            "without control groups",
            "remove it",
        ),
    ] {
        let error = load(text).unwrap_err();
        let diagnostics = error.diagnostics();
        let found = diagnostics.iter().any(|d| {
            d.line_column().map(|(line, _)| line) == line
                && d.cause().contains(cause)
                && d.advice().unwrap_or_default().contains(hint)
        });
        assert!(found, "{text}\n\n{error}");
    }
}

#[test]
fn reads_a_level_with_an_agent() {
    let level = |keys: &str| {
        let text = format!(
            "[resource.db]\nfence = [{{ driver = \"agent\", agent = \"fence_x\", within = \"21s\"{keys} }}]\n\
             last-level-may-fail = true\n"
        );
        let config = Config::from_source(&Source::new("/etc/x/fenced.toml", text)).unwrap();
        match &config.resources[&db()].plan.levels[..] {
            [Level { driver: Driver::Agent(agent), within }] => ((**agent).clone(), *within),
            other => panic!("{other:?}"),
        }
    };
    let (agent, within) = level("");
    assert_eq!(within, Duration::from_secs(21));
    let least = Agent {
        name: "fence_x".to_owned(),
        options: [].into(),
        options_file: None,
        plugs: vec![],
        plug_option: "plug".to_owned(),
        retry_after: Duration::from_secs(1),
        attempt_within: Duration::from_secs(7),
    };
    assert_eq!(agent, least);
    let (agent, _) = level(
        ", options = { ip = \"192.0.2.7\", ipport = 623, lanplus = true, quiet = false }, options-file = \"bmc\", \
         plugs = [\"a\", \"b\"], plug-option = \"port\", retry-after = \"100ms\", attempt-within = \"5s\"",
    );
    let options = [("ip", "192.0.2.7"), ("ipport", "623"), ("lanplus", "1"), ("quiet", "0")];
    let all = Agent {
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        options_file: Some("/etc/x/bmc".into()),
        plugs: ["a", "b"].map(str::to_owned).into(),
        plug_option: "port".to_owned(),
        retry_after: Duration::from_millis(100),
        attempt_within: Duration::from_secs(5),
        ..least
    };
    assert_eq!(agent, all);
}

#[test]
fn says_what_is_wrong_with_a_level_with_an_agent() {
    let wrong = |keys: &str| {
        let text = format!(
            "[resource.db]\nlast-level-may-fail = true\nfence = [\n{{ driver = \"agent\", within = \"20s\", {keys} }},\n]\n"
        );
        load(&text).unwrap_err()
    };
    let many: String = (0..17).map(|n| format!("\"{n}\",")).collect();
    for (keys, cause) in [
        ("agent = \"./fence_x\"", "neither the name of an agent nor an absolute path"),
        ("agent = \"\"", "neither the name of an agent nor an absolute path"),
        ("agent = \"/x\", command = [\"/x\"]", "`command` belongs to driver \"command\""),
        ("agent = \"/x\", options = { action = \"on\" }", "`action` is not for an option to say"),
        ("agent = \"/x\", options = { \"a b\" = 1 }", "the name of an option"),
        ("agent = \"/x\", options = { a = \"1\\naction=on\" }", "a line break"),
        ("agent = \"/x\", options = { a = 1.5 }", "floating point"),
        ("agent = \"/x\", plugs = []", "0 plugs"),
        (&format!("agent = \"/x\", plugs = [{many}]"), "17 plugs"),
        ("agent = \"/x\", plugs = [\"a\", \"a\"]", "a repetition"),
        ("agent = \"/x\", plugs = [\"a\\naction=on\"]", "a line break"),
        ("agent = \"/x\", plug-option = \"port\"", "`plug-option` without `plugs`"),
        ("agent = \"/x\", plugs = [\"a\"], options = { plug = 1 }", "`plug` beside `plugs`"),
        ("agent = \"/x\", plugs = [\"a\"], plug-option = \"a\\nb\"", "the name of an option"),
        ("agent = \"/x\", retry-after = \"99ms\"", "a pause of 99 ms"),
        ("agent = \"/x\", attempt-within = \"21s\"", "longer than its level"),
    ] {
        let error = wrong(keys);
        let [diagnostic] = error.diagnostics() else { panic!("{keys}: {error}") };
        assert!(diagnostic.cause().contains(cause), "{keys}: {error}");
        assert_eq!(diagnostic.line_column().unwrap().0, 4, "{error}");
    }
    let error = wrong("agent = \"/x\", options = { password = \"hunter2\" }").to_string();
    assert!(error.contains("fenced.toml:4:") && error.contains("`password` is a secret"), "{error}");
    assert!(error.contains("options-file") && !error.contains("hunter2"), "{error}");
}

#[test]
fn names_programs_that_cannot_be_run() {
    let unusable = load(EXAMPLE).unwrap().unusable_programs();
    assert_eq!(unusable.len(), 3);
    assert!(unusable[0].1.to_string().contains("/etc/sitegate/db-start does not exist"));
}

#[test]
fn paths_are_relative_to_the_file() {
    let text = "state-dir = \"s\"\nruntime-dir = \"r\"\n[resource.db]\nfence = []\nunfenced = true\n";
    let config = Config::from_source(&Source::new("/etc/x/fenced.toml", text)).unwrap();
    assert_eq!(config.state_dir, Path::new("/etc/x/s"));
    assert_eq!(config.socket, Path::new("/etc/x/r/fenced.sock"));
    let long = format!("socket = \"{}\"\n{text}", "x".repeat(101));
    let error = Config::from_source(&Source::new("/etc/x/fenced.toml", long)).unwrap_err().to_string();
    assert!(error.contains("fenced.toml:1:10") && error.contains("is 108 bytes long"), "{error}");
}

#[test]
fn the_shipped_example_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf/fenced.toml");
    let config = Config::load(&path).unwrap();
    assert!(config.resources[&db()].plan.certain());
    assert_eq!(config.state_dir, Path::new(DEFAULT_STATE_DIR));
    // The figures of docs/fencing.md.
    assert_eq!(config.fenced_within(&db()), Some(Duration::from_millis(14_500)));
}
