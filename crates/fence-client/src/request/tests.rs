use super::*;
use crate::status::{PlanStatus, ResourceState, ResourceStatus};
use crate::wire::{Activity, Instant};

fn db() -> Name {
    Name::new("db").unwrap()
}

#[test]
fn requests_are_what_the_manual_shows() {
    let deadline = Deadline { boot_ns: 5, raw_ns: 6 };
    let arm = Request::Arm { resource: db(), token: 259, deadline, incarnation: 4 };
    let line = r#"{"op":"arm","resource":"db","token":259,"deadline":{"boot_ns":5,"raw_ns":6},"incarnation":4,"id":7}"#;
    assert_eq!(parse_request(line.as_bytes()).unwrap(), (Some(7), arm.clone()));
    let written = request_line(7, &arm).unwrap();
    assert_eq!(parse_request(written.as_bytes()).unwrap(), (Some(7), arm));
    let set = vec![Extension { deadline, resources: vec![(db(), 259)] }];
    let extend = r#"{"op":"extend","set":[{"deadline":{"boot_ns":5,"raw_ns":6},"resources":[["db",259]]}]}"#;
    assert_eq!(parse_request(extend.as_bytes()).unwrap(), (None, Request::Extend { incarnation: 0, set }));
}

#[test]
fn garbage_is_told_apart() {
    for (line, id, why) in [
        ("", None, "EOF"),
        ("[1]", None, "invalid type"),
        (r#"{"id":"x","op":"status"}"#, None, "\"id\" must be"),
        (r#"{"id":3,"op":"destroy"}"#, Some(3), "unknown variant `destroy`"),
        (r#"{"id":4,"op":"status","colour":1}"#, Some(4), "unknown field `colour`"),
        (r#"{"id":5,"op":"start","resource":"a b","token":1}"#, Some(5), "no resource name"),
        (r#"{"id":6,"op":"start","resource":"x","token":-1}"#, Some(6), "invalid value"),
    ] {
        let (got, error) = parse_request(line.as_bytes()).unwrap_err();
        assert_eq!(got, id, "{line}");
        assert!(error.to_string().contains(why), "{line}: {error}");
    }
}

#[test]
fn replies_and_events_come_back() {
    for refusal in [
        Refusal::UnknownResource,
        Refusal::NotArmed,
        Refusal::ArmedOtherwise { armed: 1 },
        Refusal::BeingFenced { fencing: 9 },
        Refusal::AlreadyFenced { receipted: 2 },
        Refusal::OlderIncarnation { newest: 3 },
        Refusal::DeadlinePast,
        Refusal::Stopping,
        Refusal::NotAllowed { uid: 1000 },
        Refusal::StoreFailed { cause: "x".to_owned() },
    ] {
        let refused = Reply::refused(refusal);
        let line = reply_line(Some(1), &refused).unwrap();
        assert_eq!(parse_from_daemon(line.as_bytes()).unwrap(), FromDaemon::Reply(Some(1), refused));
    }
    let line = reply_line(Some(1), &Reply::refused(Refusal::BeingFenced { fencing: 9 })).unwrap();
    assert!(line.contains(r#""code":"being-fenced""#) && line.ends_with("}\n"), "{line}");
    for failed in [None, Some("exited with code 1".to_owned())] {
        let event = Notice::Stopped { resource: db(), token: 2, failed };
        let line = event_line(&event).unwrap();
        let parsed = parse_from_daemon(line.as_bytes()).unwrap();
        assert_eq!(parsed, FromDaemon::Event(Event::Resource(event)));
    }
    let not_extended = NotExtended {
        resource: db(),
        token: 2,
        refusal: Refusal::UnknownResource,
        why: Refusal::UnknownResource.to_string(),
    };
    let extended = Reply::Extended { refused: vec![not_extended] };
    let line = reply_line(None, &extended).unwrap();
    assert_eq!(parse_from_daemon(line.as_bytes()).unwrap(), FromDaemon::Reply(None, extended));
    assert!(matches!(parse_from_daemon(b"{}"), Err(LineError::Kind)));
}

#[test]
fn what_is_watched_and_joined_comes_back() {
    let deadline = Deadline { boot_ns: 5, raw_ns: 6 };
    let plan = PlanStatus {
        levels: vec!["reboot".to_owned()],
        within_ms: 1,
        within_all_ms: 2,
        certain: true,
        starts: false,
        stops: false,
    };
    let state = ResourceState::Armed { token: 259, incarnation: 1, deadline, activity: Activity::Idle };
    let resource = ResourceStatus { name: db(), state, receipt: None, plan };
    let now = Instant { boot_ns: 1, raw_ns: 2 };
    let watched = Reply::Watched(Box::new(Watched { now, resource, join_within_ms: Some(10_000) }));
    let environment = [("SITEGATE_TICKET".to_owned(), "db".to_owned())].into();
    for reply in [watched, Reply::Joined(Joined { token: 259, deadline, environment })] {
        let line = reply_line(Some(1), &reply).unwrap();
        assert!(line.contains(r#""token":259"#), "{line}");
        assert_eq!(parse_from_daemon(line.as_bytes()).unwrap(), FromDaemon::Reply(Some(1), reply));
    }
}

#[test]
fn a_reload_shows_the_whole_status() {
    let status = Status {
        protocol: PROTOCOL_VERSION,
        version: "1".to_owned(),
        boot_id: "b".to_owned(),
        now: Instant { boot_ns: 1, raw_ns: 2 },
        site: None,
        containment: "tree".to_owned(),
        concurrency: 32,
        store_failed: None,
        resources: Vec::new(),
    };
    let line = reloaded_line(&status).unwrap();
    assert!(line.contains(r#""event":"reloaded""#) && line.ends_with("}\n"), "{line}");
    let parsed = parse_from_daemon(line.as_bytes()).unwrap();
    assert_eq!(parsed, FromDaemon::Event(Event::Reloaded(Box::new(status))));
}
