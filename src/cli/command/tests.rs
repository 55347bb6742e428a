//! Commands against a member that says what the test wants.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// What the member answers to one request: status, lines, and whether it then stays silent instead of closing.
struct Answer(&'static str, Vec<String>, bool);

fn answer(status: &'static str, lines: &[&str]) -> Answer {
    Answer(status, lines.iter().map(|&line| line.to_owned()).collect(), false)
}

impl Answer {
    fn then_silent(self) -> Self {
        Self(self.0, self.1, true)
    }
}

/// A member that gives these answers to one request after another, and keeps what it was asked.
struct FakeMember {
    directory: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeMember {
    fn answering(answers: Vec<Answer>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            for Answer(status, lines, silent) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                log.lock().unwrap().push(request);
                let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
                let chunk =
                    if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
                let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
                stream.write_all(head.as_bytes()).await.unwrap();
                if silent {
                    std::future::pending::<()>().await;
                }
                stream.write_all(b"0\r\n\r\n").await.unwrap();
            }
        });
        Self { directory, asked }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    async fn give(&self, no_wait: bool, timeout: &str) -> Result<(), Failure> {
        let wish = CommandRequest {
            command: "grant".into(),
            ticket: Some("db".into()),
            site: Some("paris".into()),
            ..CommandRequest::default()
        };
        let args = WaitArgs {
            timeout: timeout.parse().unwrap(),
            no_wait,
            json: false,
            place: PlaceArgs::at_socket(self.socket()),
        };
        give(wish, &args).await
    }

    fn bodies(&self) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .map(|text| serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap())
            .collect()
    }
}

async fn read_request(stream: &mut UnixStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "the request broke off");
        request.extend_from_slice(&bytes[..read]);
    }
    String::from_utf8(request).unwrap()
}

const OK: &str = "200 OK";
const RECORDED: &str = r#"{"event":"recorded"}"#;
const DONE: &str = r#"{"event":"done","text":"paris holds db","holder":"paris","token":257}"#;

#[tokio::test]
async fn waits_until_it_holds() {
    let member = FakeMember::answering(vec![answer(
        OK,
        &[
            r#"{"event":"accepted","request":7}"#,
            RECORDED,
            r#"{"event":"waiting","text":"the guard of lyon"}"#,
            DONE,
        ],
    )]);
    member.give(false, "5s").await.unwrap();
    let body = &member.bodies()[0];
    assert_eq!(
        (&body["command"], &body["ticket"], &body["site"], &body["timeout_ms"]),
        (&"grant".into(), &"db".into(), &"paris".into(), &5000.into())
    );
    assert!(body["request"].is_u64());
    let head = member.asked.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST /v1/commands HTTP/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn no_wait_returns_once_it_is_recorded() {
    let member = FakeMember::answering(vec![answer(OK, &[RECORDED]).then_silent()]);
    member.give(true, "5s").await.unwrap();
}

#[tokio::test]
async fn a_refusal_has_its_hint() {
    let refused =
        r#"{"event":"refused","code":"held-elsewhere","text":"lyon holds db","hint":"use `sitegate move`"}"#;
    let member = FakeMember::answering(vec![answer(OK, &[refused])]);
    let failure = member.give(false, "5s").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Refused);
    assert_eq!(failure.to_string(), "error: lyon holds db\nhint: use `sitegate move`");
}

#[tokio::test]
async fn a_timeout_says_that_it_may_still_come_true() {
    let timed_out = r#"{"event":"timeout","text":"no majority answers"}"#;
    let member = FakeMember::answering(vec![answer(OK, &[RECORDED, timed_out])]);
    let failure = member.give(false, "0ms").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unfinished);
    assert!(failure.to_string().contains("not done in time: no majority answers"), "{failure}");
}

#[tokio::test]
async fn a_member_that_goes_away_is_asked_again_for_the_same_command() {
    let ends = r#"{"event":"timeout","text":"this member is ending"}"#;
    let answers = vec![answer(OK, &[RECORDED]), answer(OK, &[RECORDED, ends]), answer(OK, &[DONE])];
    let member = FakeMember::answering(answers);
    member.give(false, "5s").await.unwrap();
    let bodies = member.bodies();
    assert_eq!(bodies.len(), 3);
    assert_eq!(bodies[0], bodies[2], "the same command, with the same number");
}

#[tokio::test]
async fn a_member_that_says_nothing_is_not_waited_for_for_ever() {
    let member = FakeMember::answering(vec![answer(OK, &[]).then_silent()]);
    let failure = member.give(false, "100ms").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unfinished);
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let args = WaitArgs {
        timeout: "5m".parse().unwrap(),
        no_wait: false,
        json: false,
        place: PlaceArgs::at_socket(directory.path().join("none")),
    };
    let failure = give(CommandRequest { command: "revoke".into(), ..CommandRequest::default() }, &args)
        .await
        .unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(failure.to_string().contains("hint: "), "{failure}");
}

#[tokio::test]
async fn errors_of_the_api_have_their_exit_codes() {
    let forbidden = r#"{"error":"viewers may only look","hint":"use an operator's certificate"}"#;
    let unknown = r#"{"error":"there is no such thing","hint":null}"#;
    for (status, body, exit, shown) in [
        (
            "403 Forbidden",
            forbidden,
            Exit::Forbidden,
            "viewers may only look\nhint: use an operator's certificate",
        ),
        ("404 Not Found", unknown, Exit::Refused, "there is no such thing"),
        ("500 Oops", "not json", Exit::Refused, "answered 500"),
    ] {
        let member = FakeMember::answering(vec![answer(status, &[body])]);
        let failure = member.give(false, "5s").await.unwrap_err();
        assert_eq!(failure.exit, exit);
        assert!(failure.to_string().contains(shown), "{failure}");
    }
}
