//! The lines between a site daemon and `sitegate-fenced`, in both directions.

use sitegate_fence_client::request::{
    Event, FromDaemon, event_line, parse_from_daemon, parse_request, reloaded_line, reply_line, request_line,
};

/// What is understood is understood the same once it is written again.
pub fn run(input: &[u8]) {
    match parse_request(input) {
        Ok((id, request)) => {
            let line = request_line(id.unwrap_or(0), &request).expect("requests can be written");
            let again = parse_request(line.as_bytes()).expect("what was written can be read");
            assert_eq!(again, (Some(id.unwrap_or(0)), request));
        }
        Err((_, error)) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(said) = parse_from_daemon(input) {
        let line = match &said {
            FromDaemon::Reply(id, reply) => reply_line(*id, reply),
            FromDaemon::Event(Event::Resource(notice)) => event_line(notice),
            FromDaemon::Event(Event::Reloaded(status)) => reloaded_line(status),
        };
        let line = line.expect("what was said can be written");
        assert_eq!(parse_from_daemon(line.as_bytes()).expect("what was written can be read"), said);
    }
}

/// One of each, as `docs/fencing.md` shows them.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let deadline = r#"{"boot_ns":5000000000,"raw_ns":5000000001}"#;
    let instant = r#"{"boot_ns":1,"raw_ns":2}"#;
    let receipt = format!(
        r#""resource":"db","token":7,"reason":"deadline","level":1,"proof":{{"what":"killed","unix_ms":1}},"began":{instant},"ended":{instant}"#
    );
    let seeds = [
        ("hello", r#"{"id":1,"op":"hello","site":"paris","watch":true}"#.to_owned()),
        (
            "arm",
            format!(
                r#"{{"id":2,"op":"arm","resource":"db","token":7,"deadline":{deadline},"incarnation":3}}"#
            ),
        ),
        (
            "extend",
            format!(
                r#"{{"op":"extend","incarnation":3,"set":[{{"deadline":{deadline},"resources":[["db",7]]}}]}}"#
            ),
        ),
        ("start", r#"{"id":3,"op":"start","resource":"db","token":7}"#.to_owned()),
        ("stop", r#"{"id":4,"op":"stop","resource":"db","token":7}"#.to_owned()),
        ("fence", r#"{"id":5,"op":"fence","resource":"db","token":7,"reason":"revoked"}"#.to_owned()),
        ("status", r#"{"id":6,"op":"status"}"#.to_owned()),
        ("history", r#"{"id":7,"op":"history","resource":"db","limit":3}"#.to_owned()),
        ("watch", r#"{"id":8,"op":"watch","resource":"db"}"#.to_owned()),
        ("join", r#"{"id":9,"op":"join","resource":"db"}"#.to_owned()),
        (
            "joined",
            format!(
                r#"{{"id":9,"reply":"joined","token":7,"deadline":{deadline},"environment":{{"SITEGATE_TICKET":"db"}}}}"#
            ),
        ),
        ("armed", format!(r#"{{"id":2,"reply":"armed","deadline":{deadline}}}"#)),
        ("extended", r#"{"reply":"extended","refused":[]}"#.to_owned()),
        ("started", r#"{"id":3,"reply":"started","failed":"exit code 1"}"#.to_owned()),
        ("receipt", format!(r#"{{"id":5,"reply":"receipt",{receipt}}}"#)),
        ("error", r#"{"id":9,"reply":"error","why":"no"}"#.to_owned()),
        ("fenced", format!(r#"{{"event":"fenced","receipt":{{{receipt}}},{receipt}}}"#)),
        ("fencing", r#"{"event":"fencing","resource":"db","token":7,"reason":"deadline"}"#.to_owned()),
    ];
    seeds.map(|(name, line)| (name.to_owned(), line.into_bytes())).into()
}
