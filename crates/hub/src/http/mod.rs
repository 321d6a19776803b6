//! Requests to places on the network, by rules that hold for all of them:
//!
//! - Encrypted, unless the user vouched for an origin without encryption.
//! - Only to public addresses, unless the user vouched for the origin. Every redirect is checked as the first address was.
//! - A secret is shown to the origin that it belongs to, and to no other, wherever that one redirects.
//! - Every answer has a limit, every wait has an end, and what failed in passing is tried again, ever less often.
//!
//! Blocking, on the caller's thread. Left out: cookies, compression (an answer is never larger than what arrived), HTTP/2.

mod guard;
mod origin;
pub(crate) mod ranges;

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ureq::http::header::{AUTHORIZATION, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use ureq::http::{Method, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Error, Proxy, SendBody, Timeout};

use self::guard::{Lookup, NotPublic};
pub(crate) use self::origin::{Origin, encode, join};
use crate::HubError;
use crate::network::Network;

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 10;
/// How often a request is made before it has failed.
pub(crate) const ATTEMPTS: u32 = 6;
/// The longest wait between two of them.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How long an answer may take to begin.
const ANSWER: Duration = Duration::from_secs(60);
/// What a timeout is called.
const SILENT: &str = "it was silent for too long";
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 64 << 10;
/// The most bytes of an error's body that are read.
const MAX_COMPLAINT: u64 = 4 << 10;

/// What speaks to the network.
pub(crate) struct Client {
    network: Network,
    trusted: Vec<Origin>,
    /// For origins that are vouched for.
    open: Agent,
    /// For all others.
    guarded: Agent,
    /// For this machine, where a proxy has no part.
    direct: Agent,
}

/// A secret and where it may be shown.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) origin: Origin,
    /// The header's value.
    pub(crate) value: String,
}

/// What is asked.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Uri,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) body: Body<'a>,
}

/// What is sent along.
#[derive(Clone)]
pub(crate) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    /// A piece of a file. Bytes are counted as they go.
    File {
        path: &'a Path,
        start: u64,
        len: u64,
        sent: &'a Arc<AtomicU64>,
    },
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, url: Uri) -> Request<'a> {
        Request { method, url, headers: Vec::new(), authorization: None, body: Body::None }
    }

    pub(crate) fn get(url: Uri) -> Request<'a> {
        Request::new(Method::GET, url)
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Request<'a> {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(self, body: Body<'a>) -> Request<'a> {
        Request { body, ..self }
    }

    pub(crate) fn authorization(self, authorization: Option<Authorization>) -> Request<'a> {
        Request { authorization, ..self }
    }
}

/// An answer, its body yet to be read.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Where it came from, after redirects.
    pub(crate) url: Uri,
    body: ureq::Body,
    place: String,
}

impl Response {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body, of at most `limit` bytes.
    pub(crate) fn bytes(self, limit: u64) -> Result<Vec<u8>, HubError> {
        let place = self.place.clone();
        let mut bytes = Vec::new();
        let read = self.reader().take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| interrupted(&place, &error))?;
        if bytes.len() as u64 > limit {
            let problem =
                format!("an answer has more than {limit} bytes where so many are the most that is sensible");
            return Err(HubError::BadAnswer { place, problem });
        }
        Ok(bytes)
    }

    /// The body as it arrives.
    pub(crate) fn reader(self) -> impl Read {
        self.body.into_reader()
    }

    /// The error that an unwelcome status is, with what the place says of it.
    pub(crate) fn failure(self, what: &str) -> HubError {
        let (status, place, what) = (self.status, self.place.clone(), what.to_owned());
        // The Hugging Face Hub says it in a header.
        let header = self.header(&HeaderName::from_static("x-error-message")).map(str::to_owned);
        let mut text = Vec::new();
        // A complaint that cannot be read is none.
        let _ = self.reader().take(MAX_COMPLAINT).read_to_end(&mut text);
        let said = complaint(header.as_ref().map_or(&*text, |header| header.as_bytes()));
        match status {
            401 | 403 => HubError::Unauthorized { place, what, status, said },
            404 => HubError::NotThere { place, what, said },
            _ => HubError::Status { place, what, status, said },
        }
    }
}

/// What an error's body says to people: the message of Docker's and Hugging Face's JSON, or a short plain text.
fn complaint(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|json| {
        let first = json.pointer("/errors/0/message").or_else(|| json.pointer("/error/message"));
        first.or_else(|| json.get("error")).or_else(|| json.get("message"))?.as_str()
    });
    let text = match message {
        Some(message) => message,
        None if text.trim_start().starts_with(['<', '{']) => "",
        None => &text,
    };
    // One line, without what could steer a terminal.
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

impl Client {
    /// A client by these settings; `named` is the origin that the user asked for by name, if the settings let that count.
    pub(crate) fn new(network: &Network, named: Option<Origin>) -> Result<Client, HubError> {
        let mut trusted: Vec<Origin> = network.trusted_origins().collect();
        trusted.extend(named);
        let setting = |name: &str, problem: String| HubError::Setting { name: name.to_owned(), problem };
        let proxy = network.proxy.as_ref().map(|text| {
            let proxy = Proxy::new(text).map_err(|error| setting("HTTPS_PROXY", error.to_string()))?;
            // The library lets a proxy know its exceptions through its builder alone.
            let mut builder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
            if let Some(user) = proxy.username() {
                builder = builder.username(user);
            }
            if let Some(password) = proxy.password() {
                builder = builder.password(password);
            }
            // As curl reads the list: a name stands for what is below it, too.
            for host in network.no_proxy.iter().flat_map(|list| list.split(',')).map(str::trim) {
                builder = builder.no_proxy(host).no_proxy(&format!(".{}", host.trim_start_matches('.')));
            }
            builder.build().map_err(|error| setting("HTTPS_PROXY", error.to_string()))
        });
        let proxy = proxy.transpose()?;
        let roots = match &network.certificates {
            Some(path) => roots(path)?,
            None => RootCerts::WebPki,
        };
        let agent = |public_only: bool, proxy: Option<Proxy>| {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .max_response_header_size(MAX_HEAD)
                .user_agent(concat!("whit/", env!("CARGO_PKG_VERSION")))
                .accept_encoding("identity")
                .timeout_resolve(Some(network.connect / 3))
                .timeout_connect(Some(network.connect * 2 / 3))
                .timeout_recv_response(Some(ANSWER))
                .timeout_per_read(Some(network.stall))
                .timeout_per_write(Some(network.stall))
                .tls_config(TlsConfig::builder().root_certs(roots.clone()).build())
                .proxy(proxy.clone())
                .build();
            let proxy = proxy.map(|proxy| (proxy.host().to_owned(), proxy.port()));
            Agent::with_parts(config, DefaultConnector::default(), Lookup { public_only, proxy })
        };
        Ok(Client {
            network: network.clone(),
            trusted,
            open: agent(false, proxy.clone()),
            guarded: agent(true, proxy),
            direct: agent(false, None),
        })
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Asks, and asks again where that may help: a busy place, an answer that broke off. A place that cannot be reached is
    /// not asked twice. The answer may have any status; see [`Response::failure`].
    pub(crate) fn send(&self, request: &Request<'_>) -> Result<Response, HubError> {
        let mut attempt = 1;
        loop {
            let result = self.once(request);
            let wait = match &result {
                Ok(response) if is_busy(response.status) => self.wait(attempt, response.header(&RETRY_AFTER)),
                Err(HubError::Interrupted { .. }) => self.wait(attempt, None),
                _ => return result,
            };
            if attempt >= ATTEMPTS {
                return result;
            }
            tracing::debug!(url = %without_query(&request.url), attempt, ?wait, "trying again");
            std::thread::sleep(wait);
            attempt += 1;
        }
    }

    /// Reads a small answer whole, and asks again where it breaks off. `what` is what a refusal is of.
    pub(crate) fn whole(
        &self,
        limit: u64,
        what: &str,
        ask: impl Fn() -> Result<Response, HubError>,
    ) -> Result<(HeaderMap, Vec<u8>), HubError> {
        let mut attempt = 1;
        loop {
            let response = ask()?;
            if !response.is_success() {
                return Err(response.failure(what));
            }
            let headers = response.headers.clone();
            match response.bytes(limit) {
                Err(HubError::Interrupted { .. }) if attempt < ATTEMPTS => {
                    std::thread::sleep(self.wait(attempt, None));
                    attempt += 1;
                }
                result => return result.map(|bytes| (headers, bytes)),
            }
        }
    }

    /// How long to wait after a failed attempt, counted from 1. `asked` is the place's own `Retry-After`.
    pub(crate) fn wait(&self, attempt: u32, asked: Option<&str>) -> Duration {
        let doubled = self.network.backoff.saturating_mul(1 << attempt.saturating_sub(1).min(10));
        // A date instead of seconds is rare, and then our own wait does.
        let asked = asked.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        asked.unwrap_or(doubled).min(MAX_WAIT)
    }

    /// Asks once, following redirects.
    pub(crate) fn once(&self, request: &Request<'_>) -> Result<Response, HubError> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let (origin, agent) = self.admit(&url)?;
            let response = self.ask(request, &url, &origin, agent)?;
            let follow = match response.status {
                307 | 308 => true,
                301..=303 => matches!(request.method, Method::GET | Method::HEAD),
                _ => false,
            };
            let Some(location) = response.header(&LOCATION).filter(|_| follow) else { return Ok(response) };
            url = join(&url, location).ok_or_else(|| HubError::BadAnswer {
                place: origin.to_string(),
                problem: format!("it redirects to `{}`, which is no address", location.escape_debug()),
            })?;
        }
        Err(HubError::BadAnswer {
            place: place_of(&request.url),
            problem: format!("it redirects more than {MAX_REDIRECTS} times"),
        })
    }

    /// Whether `url` may be asked, and by whom.
    fn admit(&self, url: &Uri) -> Result<(Origin, &Agent), HubError> {
        let forbidden =
            |place: String, problem: &str| Err(HubError::Forbidden { place, problem: problem.to_owned() });
        let Some(origin) = Origin::of(url) else {
            return forbidden(place_of(url), "it is no plain http or https address");
        };
        if self.network.offline {
            return Err(HubError::NetworkOff { place: origin.to_string() });
        }
        let trusted = self.trusted.contains(&origin);
        if !trusted && !origin.is_encrypted() {
            return forbidden(origin.to_string(), "it is not encrypted");
        }
        let literal = origin.literal();
        if !trusted && literal.is_some_and(|address| !origin::is_public(address)) {
            return forbidden(origin.to_string(), &NotPublic.to_string());
        }
        let here = literal.is_some_and(|address| address.is_loopback()) || origin.host() == "localhost";
        let agent = match (trusted, here) {
            (true, true) => &self.direct,
            (true, false) => &self.open,
            (false, _) => &self.guarded,
        };
        Ok((origin, agent))
    }

    fn ask(
        &self,
        request: &Request<'_>,
        url: &Uri,
        origin: &Origin,
        agent: &Agent,
    ) -> Result<Response, HubError> {
        let place = origin.to_string();
        let mut builder = ureq::http::Request::builder().method(request.method.clone()).uri(url.clone());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(authorization) = request.authorization.as_ref().filter(|a| a.origin == *origin) {
            builder = builder.header(AUTHORIZATION, &authorization.value);
        }
        let unwritable = |_| HubError::BadAnswer {
            place: place.clone(),
            problem: "it asks for a header that cannot be written".to_owned(),
        };
        tracing::debug!(method = %request.method, url = %without_query(url), "asking");
        let answer = match &request.body {
            Body::None => agent.run(builder.body(()).map_err(unwritable)?),
            Body::Bytes(bytes) => agent.run(builder.body(*bytes).map_err(unwritable)?),
            Body::File { path, start, len, sent } => {
                let open = || -> io::Result<File> {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(*start))?;
                    Ok(file)
                };
                let file = open().map_err(|error| HubError::io(path, "read", error))?;
                let mut piece =
                    Counted { inner: file.take(*len), sent: Arc::clone(sent), n: 0, whole: false };
                let builder = builder.header("content-length", len.to_string());
                let body = SendBody::from_reader(&mut piece);
                let answer = agent.run(builder.body(body).map_err(unwritable)?);
                // What a failed attempt sent will be sent, and counted, again.
                piece.whole = answer.as_ref().is_ok_and(|answer| answer.status().is_success());
                answer
            }
        };
        let answer = answer.map_err(|error| Client::failed(&place, error))?;
        let (head, body) = answer.into_parts();
        tracing::debug!(status = head.status.as_u16(), "answered");
        Ok(Response { status: head.status.as_u16(), headers: head.headers, url: url.clone(), body, place })
    }

    fn failed(place: &str, error: Error) -> HubError {
        let place = place.to_owned();
        let unreachable = |place, problem: &str| HubError::Unreachable { place, problem: problem.to_owned() };
        match error {
            Error::HostNotFound => unreachable(place, "there is no such host"),
            Error::Timeout(Timeout::Resolve) => unreachable(place, "its address was not found in time"),
            Error::Timeout(Timeout::Connect) => unreachable(place, "no connection was made in time"),
            Error::ConnectionFailed => unreachable(place, "no connection was made"),
            Error::ConnectProxyFailed(said) => {
                HubError::Unreachable { place, problem: format!("the proxy refused ({said})") }
            }
            Error::Io(error) if is_unreachable(&error) => unreachable(place, &error.to_string()),
            Error::Rustls(error) => HubError::Unreachable { place, problem: format!("TLS: {error}") },
            Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                HubError::Unreachable { place, problem: format!("TLS: {error}") }
            }
            Error::Tls(problem) => HubError::Unreachable { place, problem: format!("TLS: {problem}") },
            Error::Timeout(_) => HubError::Interrupted { place, problem: SILENT.to_owned() },
            Error::Other(error) if error.is::<NotPublic>() => {
                HubError::Forbidden { place, problem: NotPublic.to_string() }
            }
            Error::Io(error) => interrupted(&place, &error),
            Error::LargeResponseHeader(..) => {
                HubError::BadAnswer { place, problem: "the head of its answer is too large".to_owned() }
            }
            error => HubError::Interrupted { place, problem: error.to_string() },
        }
    }
}

/// Statuses that may be others a moment later.
pub(crate) fn is_busy(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

fn is_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::AddrNotAvailable
            | Kind::PermissionDenied
    )
}

/// An answer that broke off.
pub(crate) fn interrupted(place: &str, error: &io::Error) -> HubError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let problem = match inner {
        Some(Error::Timeout(_)) => SILENT.to_owned(),
        _ => error.to_string(),
    };
    HubError::Interrupted { place: place.to_owned(), problem }
}

/// The origin of an address for messages, without what it may hold of secrets.
pub(crate) fn place_of(url: &Uri) -> String {
    Origin::of(url).map_or_else(|| url.host().unwrap_or("an address").to_owned(), |origin| origin.to_string())
}

/// An address for the log: what follows `?` is often a signature.
fn without_query(url: &Uri) -> String {
    format!("{}{}", place_of(url), url.path())
}

/// Sleeps, and wakes early when `cancelled`.
pub(crate) fn sleep(time: Duration, cancelled: &AtomicBool) {
    let end = Instant::now() + time;
    while !cancelled.load(Ordering::Relaxed) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

fn roots(path: &Path) -> Result<RootCerts, HubError> {
    let pem = std::fs::read(path).map_err(|error| HubError::io(path, "read", error))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        let problem = format!("{} holds no certificates", path.display());
        return Err(HubError::Setting { name: "SSL_CERT_FILE".to_owned(), problem });
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

/// Counts what is read from a file that is being sent, and takes it back if it was in vain.
struct Counted {
    inner: io::Take<File>,
    sent: Arc<AtomicU64>,
    n: u64,
    whole: bool,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.n += n as u64;
        self.sent.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.whole {
            self.sent.fetch_sub(self.n, Ordering::Relaxed);
        }
    }
}
