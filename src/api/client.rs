//! The client of a member's API: HTTP/1.1 and JSON over its Unix socket, or over mutual TLS.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use sitegate_member::config::{Address, Host};
use sitegate_member::tls::{Credentials, Service, explain, server_name};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::place::Place;
use crate::terminal::exit::Exit;
use crate::terminal::failure::{Failure, with_causes};

/// How long connecting may take, TLS handshake included: a member that is reachable at all answers within two round
/// trips, each of at most seconds.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a plain answer may take: an arbitrator may ask another member first.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The largest answer, in bytes: the status of 10 000 tickets is a tenth of this.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Names the user behind sudo to the member, which records it as a claim.
const SUDO_HEADER: &str = "x-sitegate-sudo-user";

/// What to do when either side does not accept the other's certificate.
const OTHER_PKI: &str = "look at our certificate and CA with `sitegate pki show`: are they of this formation, and of the same \
                         `sitegate pki init` as the members'?";

/// A member to ask. Every request has a connection of its own.
#[derive(Debug)]
pub(crate) struct Client {
    place: Place,
}

/// An error as the API words it.
#[derive(Debug, Deserialize)]
struct ApiError {
    error: String,
    hint: Option<String>,
}

impl Client {
    /// Of the member at `place`. Nothing is connected yet.
    #[must_use]
    pub(crate) fn new(place: Place) -> Self {
        Self { place }
    }

    /// The answer to a GET.
    ///
    /// # Errors
    /// Nobody answers, or the member refuses.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.whole(Method::GET, path, None).await
    }

    /// The answer to a GET that is plain text.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn get_text(&self, path: &str) -> Result<String, Failure> {
        let bytes = self.bytes(Method::GET, path, None).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The answer to a POST.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.whole(Method::POST, path, Some(body)).await
    }

    /// The answer to a POST, as it comes.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) async fn post_streaming(&self, path: &str, body: &Value) -> Result<Incoming, Failure> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status();
        Err(self.refused(status, &self.read(response).await?))
    }

    async fn whole(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let bytes = self.bytes(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.nonsense(&error))
    }

    async fn bytes(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, Failure> {
        let answer = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            Ok((status, self.read(response).await?))
        };
        let (status, bytes) =
            timeout(ANSWER_MAX, answer).await.unwrap_or_else(|_| Err(self.silent(ANSWER_MAX)))?;
        if !status.is_success() {
            return Err(self.refused(status, &bytes));
        }
        Ok(bytes)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "sitegate.invalid");
        if let Some(user) = sudo_user() {
            request = request.header(SUDO_HEADER, user);
        }
        let bytes = body.map(|body| Bytes::from(body.to_string()));
        if bytes.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(bytes.unwrap_or_default()));
        let request = request.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        let connected = timeout(CONNECT_MAX, self.connect()).await;
        let stream = connected.unwrap_or_else(|_| Err(self.silent(CONNECT_MAX)))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.lost(&e))?;
        // Ends with the connection; what it has to say comes out of the request as well.
        tokio::spawn(async move { connection.await.ok() });
        sender.send_request(request).await.map_err(|error| self.lost(&error))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| {
            Failure::new(Exit::Unreachable, format!("{} broke off its answer: {error}", self.name()))
        })?;
        Ok(body.to_bytes())
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Failure> {
        match &self.place {
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| not_connected(path, &error))?;
                Ok(Box::new(stream))
            }
            Place::Member(address, credentials) => {
                let stream = connect_tls(address, credentials).await;
                Ok(Box::new(stream.map_err(|error| not_connected_tls(address, &error))?))
            }
        }
    }

    /// Who is asked, for messages.
    fn name(&self) -> String {
        match &self.place {
            Place::Socket(path) => format!("the member at {}", path.display()),
            Place::Member(address, _) => format!("the member at {address}"),
        }
    }

    fn silent(&self, after: Duration) -> Failure {
        let text = format!("{} does not answer within {} s", self.name(), after.as_secs());
        Failure::new(Exit::Unreachable, text).hint("ask another member with --member")
    }

    fn lost(&self, error: &hyper::Error) -> Failure {
        // In TLS 1.3 a certificate is refused after the handshake, with the first answer.
        if let Some(alert) = io_error_of(error).filter(|error| is_tls(error)) {
            let text = format!("{} ended the connection: {}", self.name(), explain(alert));
            return Failure::new(Exit::Forbidden, text).hint(OTHER_PKI);
        }
        let text = format!("{} closed the connection: {}", self.name(), with_causes(error));
        Failure::new(Exit::Unreachable, text).hint("look at its log; ask another member with --member")
    }

    fn nonsense(&self, error: &serde_json::Error) -> Failure {
        let text = format!("{} gave an answer that is no JSON: {error}", self.name());
        Failure::new(Exit::Failed, text).hint("check that it is a sitegate daemon of this version")
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        let exit = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Forbidden,
            StatusCode::UNPROCESSABLE_ENTITY => Exit::Configuration,
            _ => Exit::Refused,
        };
        match serde_json::from_slice::<ApiError>(body) {
            Ok(ApiError { error, hint }) if error.starts_with("error: ") => {
                let hint = hint.filter(|hint| !hint.is_empty()).map(|hint| format!("\n\nhint: {hint}"));
                Failure::rendered(exit, format!("{}{}", error.trim_end(), hint.unwrap_or_default()))
            }
            Ok(ApiError { error, hint }) => Failure::new(exit, error).maybe_hint(hint),
            Err(_) => Failure::new(exit, format!("{} answered {status}", self.name())),
        }
    }
}

/// What a connection must be able to do.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

fn not_connected(path: &Path, error: &io::Error) -> Failure {
    let (exit, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            Exit::Forbidden,
            "become root or a member of the socket's group, or use --member with a certificate",
        ),
        _ => (
            Exit::Unreachable,
            "see whether sitegated or sitegate-arbitrator runs here, or ask elsewhere with --socket or --member",
        ),
    };
    Failure::new(exit, format!("cannot connect to {}: {error}", path.display())).hint(hint)
}

/// Tries every address of a name, as one of them may lead nowhere.
async fn connect_tls(
    address: &Address,
    credentials: &Credentials,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let host = match &address.host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for socket in lookup_host((host, address.port)).await? {
        match TcpStream::connect(socket).await {
            Ok(tcp) => {
                let connector = tokio_rustls::TlsConnector::from(credentials.client_to_any(Service::Api));
                return connector.connect(server_name(), tcp).await;
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn not_connected_tls(address: &Address, error: &io::Error) -> Failure {
    let text = format!("cannot connect to {address}: {}", explain(error));
    if is_tls(error) {
        Failure::new(Exit::Forbidden, text).hint(OTHER_PKI)
    } else {
        Failure::new(Exit::Unreachable, text)
            .hint("check the address and the firewall, or ask another member")
    }
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

fn io_error_of(error: &hyper::Error) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}

fn sudo_user() -> Option<String> {
    std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty())
}
