//! Who may call, and from where. In this order, whatever the address:
//!
//! 1. `Host` must be a name of this server: a page whose name was rebound to this address does not know one.
//! 2. `Origin`, where there is one, must be this server or an allowed page; the same list answers CORS preflights.
//! 3. A key, where keys are set. Keys of scope `inference` open nothing that changes models.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};

use crate::config::{ApiKey, Scope, ServerConfig};
use crate::error::ApiError;
use crate::stall::{self, Moving};
use crate::state::AppState;

/// A client must have sent what is read into memory by then, however it moves.
const BODY_TIME: Duration = Duration::from_secs(600);
/// As much of a body that is too large is read and thrown away, so that its sender, who looks for an answer only when all
/// is sent, gets one, and not a broken pipe.
const DRAINED_BYTES: u64 = 256 << 20;
/// Open without a key: what a load balancer asks, and the page that asks for the key.
const OPEN: [&str; 7] = ["/", "/models", "/status", "/healthz", "/readyz", "/api/version", "/openapi.json"];
/// Paths below which the page and its files lie.
const OPEN_BELOW: [&str; 2] = ["/assets/", "/c/"];
/// What changes the models, by method and path.
const ADMIN: [&str; 5] = ["/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete"];
const ADMIN_BELOW: &str = "/api/blobs/";
/// Uploads that are written to the disk as they come.
const UPLOADS: &str = "/v1/files";
/// Schemes of desktop programs, which Ollama allows too: no website can have them.
const PROGRAMS: [&str; 5] = ["app://", "file://", "tauri://", "vscode-webview://", "vscode-file://"];

/// Refuses what may not pass, and adds CORS headers to what may.
pub(crate) async fn check(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let response = match admit(&state.config, &request) {
        Ok(Admitted::Preflight) => StatusCode::NO_CONTENT.into_response(),
        Ok(Admitted::Request) => match with_body(request, &state.config).await {
            Ok(request) => next.run(request).await,
            Err(error) => error.for_path(&path),
        },
        Err(error) => {
            tracing::warn!(%method, path, reason = %error, "refused");
            // Without CORS headers: a page that may not call is not told anything.
            return error.for_path(&path);
        }
    };
    match origin {
        Some(origin) => with_cors(response, origin, method == Method::OPTIONS),
        None => response,
    }
}

/// Reads the body, so that neither its size nor its slowness is a handler's affair. Of uploads, only that they move.
async fn with_body(request: Request, config: &ServerConfig) -> Result<Request, ApiError> {
    let limit = config.max_body;
    let (head, body) = request.into_parts();
    let body = Moving::body(body, config.stall);
    let path = head.uri.path();
    if path.starts_with(ADMIN_BELOW) || path == UPLOADS {
        return Ok(Request::from_parts(head, body));
    }
    let declared = header_text(&head.headers, &header::CONTENT_LENGTH).and_then(|n| n.parse::<u64>().ok());
    // Who expects to be told to continue has sent nothing yet.
    let waits = head.headers.contains_key(header::EXPECT);
    if declared.is_some_and(|n| n > DRAINED_BYTES || (waits && n > limit as u64)) {
        return Err(ApiError::TooLarge { limit });
    }
    match tokio::time::timeout(BODY_TIME, read(body, limit)).await {
        Ok(bytes) => Ok(Request::from_parts(head, Body::from(bytes?))),
        Err(_) => Err(ApiError::Timeout),
    }
}

/// The whole body, of which no more than `limit` bytes are kept.
async fn read(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut n_bytes) = (Vec::new(), 0u64);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| stall::failure(&error))?;
        n_bytes += piece.len() as u64;
        if n_bytes <= limit as u64 {
            bytes.extend_from_slice(&piece);
        } else if n_bytes > DRAINED_BYTES {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if n_bytes > limit as u64 { Err(ApiError::TooLarge { limit }) } else { Ok(bytes) }
}

#[derive(Debug, PartialEq, Eq)]
enum Admitted {
    Request,
    Preflight,
}

fn admit(config: &ServerConfig, request: &Request) -> Result<Admitted, ApiError> {
    let headers = request.headers();
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => header_text(headers, &header::HOST).unwrap_or_default(),
    };
    if !is_known_host(config, host) {
        return Err(ApiError::Forbidden(
            "this Host is not a name of this server; add it to `hosts` in the settings".to_owned(),
        ));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let allowed = origin.to_str().is_ok_and(|origin| is_allowed_origin(config, origin, host));
        if !allowed {
            return Err(ApiError::Forbidden(
                "pages of this Origin may not call this server; add it to WHIT_ORIGINS or OLLAMA_ORIGINS"
                    .to_owned(),
            ));
        }
    }
    let is_preflight =
        request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if is_preflight {
        return Ok(Admitted::Preflight);
    }
    let path = request.uri().path();
    if config.keys.is_empty() || is_open(path) {
        return Ok(Admitted::Request);
    }
    let Some(secret) = secret(headers) else {
        return Err(ApiError::Unauthorized(
            "an API key is needed: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`",
        ));
    };
    let scope = scope_of(&config.keys, secret)
        .ok_or(ApiError::Unauthorized("this API key is not one of this server's"))?;
    if is_admin(path) && scope != Scope::Admin {
        return Err(ApiError::Forbidden("this API key may ask models, but not change them".to_owned()));
    }
    Ok(Admitted::Request)
}

/// Whether a path is answered without a key.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || OPEN_BELOW.iter().any(|prefix| path.starts_with(prefix))
}

/// Whether a path changes the models.
pub(crate) fn is_admin(path: &str) -> bool {
    ADMIN.contains(&path) || path.starts_with(ADMIN_BELOW)
}

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The key that a request shows.
fn secret(headers: &HeaderMap) -> Option<&str> {
    let bearer = header_text(headers, &header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer
        .or_else(|| header_text(headers, &HeaderName::from_static("x-api-key")))
        .filter(|key| !key.is_empty())
}

/// What a key opens. Digests are compared whole, and all of them, so that time tells nothing.
fn scope_of(keys: &[ApiKey], secret: &str) -> Option<Scope> {
    let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    let mut found = None;
    for key in keys {
        let difference = key.digest.iter().zip(&digest).fold(0u8, |difference, (a, b)| difference | (a ^ b));
        if std::hint::black_box(difference) == 0 {
            found = Some(key.scope);
        }
    }
    found
}

/// Whose things a caller sees: a key that may only ask has its own; whoever may change the server shares one set.
pub(crate) fn owner(config: &ServerConfig, headers: &HeaderMap) -> String {
    let asks = |secret: &&str| scope_of(&config.keys, secret) == Some(Scope::Inference);
    match secret(headers).filter(asks) {
        Some(secret) => {
            let digest = Sha256::digest(secret.as_bytes());
            digest[..8].iter().fold("key-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
        }
        None => "admin".to_owned(),
    }
}

/// `host` without its port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, _)) => ip,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_known_host(config: &ServerConfig, host: &str) -> bool {
    let name = name_of(host).trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    if config.hosts.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
        return true;
    }
    // An address cannot be rebound: only names can. Bound to all addresses, the server does not know which are its own.
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip == config.address.ip() || config.address.ip().is_unspecified(),
        Err(_) => false,
    }
}

fn is_allowed_origin(config: &ServerConfig, origin: &str, host: &str) -> bool {
    let listed = |pattern: &String| match pattern.strip_suffix('*') {
        Some(prefix) => origin.starts_with(prefix),
        None => origin.eq_ignore_ascii_case(pattern.trim_end_matches('/')),
    };
    if config.origins.iter().any(listed) || PROGRAMS.iter().any(|scheme| origin.starts_with(scheme)) {
        return true;
    }
    let Some(("http" | "https", place)) = origin.split_once("://") else { return false };
    if place.eq_ignore_ascii_case(host) {
        return true;
    }
    // A page of a program on this machine.
    let name = name_of(place);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

fn with_cors(mut response: Response, origin: HeaderValue, is_preflight: bool) -> Response {
    let headers = response.headers_mut();
    // Never with credentials: keys are sent by hand.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if is_preflight {
        let set = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE, HEAD, OPTIONS"),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, content-type, user-agent, accept, x-requested-with, x-api-key, anthropic-version, \
                 anthropic-beta, anthropic-dangerous-direct-browser-access, openai-beta, openai-organization, \
                 openai-project, x-stainless-lang, x-stainless-package-version, x-stainless-os, x-stainless-arch, \
                 x-stainless-runtime, x-stainless-runtime-version, x-stainless-async, x-stainless-retry-count, \
                 x-stainless-timeout, x-stainless-helper-method, x-stainless-poll-helper, \
                 x-stainless-custom-poll-interval",
            ),
            (header::ACCESS_CONTROL_MAX_AGE, "43200"),
        ];
        for (name, value) in set {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// Whether strangers can reach the address.
pub(crate) fn is_remote(address: SocketAddr) -> bool {
    !address.ip().is_loopback()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn config(address: &str) -> ServerConfig {
        let mut config = ServerConfig { hosts: vec!["models.lan".to_owned()], ..ServerConfig::default() };
        config.address = address.parse().unwrap();
        config.origins = vec!["https://chat.example".to_owned(), "chrome-extension://*".to_owned()];
        config
    }

    #[test]
    fn hosts() {
        for (address, host, expected) in [
            ("127.0.0.1:11434", "localhost:11434", true),
            ("127.0.0.1:11434", "LOCALHOST", true),
            ("127.0.0.1:11434", "app.localhost:1", true),
            ("127.0.0.1:11434", "127.0.0.1:11434", true),
            ("127.0.0.1:11434", "[::1]:11434", true),
            ("127.0.0.1:11434", "models.lan:11434", true),
            ("127.0.0.1:11434", "evil.example", false),
            ("127.0.0.1:11434", "localhost.evil.example", false),
            ("127.0.0.1:11434", "evillocalhost", false),
            ("127.0.0.1:11434", "", false),
            ("127.0.0.1:11434", "192.168.1.5", false),
            ("192.168.1.5:11434", "192.168.1.5:11434", true),
            ("192.168.1.5:11434", "192.168.1.6:11434", false),
            ("0.0.0.0:11434", "192.168.1.5:11434", true),
            ("0.0.0.0:11434", "evil.example:11434", false),
        ] {
            assert_eq!(is_known_host(&config(address), host), expected, "{address} {host}");
        }
    }

    #[test]
    fn origins() {
        for (origin, host, expected) in [
            ("http://localhost:3000", "localhost:11434", true),
            ("https://127.0.0.1", "localhost:11434", true),
            ("http://[::1]:5173", "localhost:11434", true),
            ("http://models.lan:11434", "models.lan:11434", true),
            ("http://models.lan:3000", "models.lan:11434", false),
            ("https://chat.example", "localhost:11434", true),
            ("https://chat.example.evil", "localhost:11434", false),
            ("http://localhost.evil.example", "localhost:11434", false),
            ("chrome-extension://abc", "localhost:11434", true),
            ("tauri://localhost", "localhost:11434", true),
            ("null", "localhost:11434", false),
            ("", "localhost:11434", false),
        ] {
            assert_eq!(is_allowed_origin(&config("127.0.0.1:11434"), origin, host), expected, "{origin}");
        }
    }

    #[test]
    fn owners() {
        let mut config = config("127.0.0.1:11434");
        let of = |config: &ServerConfig, key: &str| {
            let value = HeaderValue::from_str(key).unwrap();
            owner(config, &HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), value)]))
        };
        assert_eq!(of(&config, "one"), "admin");
        let key = |name: &str, scope: Scope| ApiKey::new(name, scope);
        config.keys =
            vec![key("one", Scope::Inference), key("two", Scope::Inference), key("all", Scope::Admin)];
        // printf %s one | sha256sum
        assert_eq!(of(&config, "one"), "key-7692c3ad3540bb80");
        assert_eq!(of(&config, "two"), "key-3fc4ccfe745870e2");
        assert_eq!(of(&config, "all"), "admin");
    }

    #[test]
    fn keys_open_what_they_should() {
        let mut config = config("127.0.0.1:11434");
        config.keys = vec![ApiKey::new("ask", Scope::Inference), ApiKey::new("all", Scope::Admin)];
        let check = |path: &str, key: Option<(&str, &str)>| {
            let mut request = Request::builder().uri(path).header("host", "localhost");
            if let Some((name, value)) = key {
                request = request.header(name, value);
            }
            let request = request.body(Body::empty()).unwrap();
            admit(&config, &request).map_or_else(|error| error.status().as_u16(), |_| 200)
        };
        for (path, key, expected) in [
            ("/", None, 200),
            ("/healthz", None, 200),
            ("/api/tags", None, 401),
            ("/api/tags", Some(("authorization", "Bearer ask")), 200),
            ("/api/tags", Some(("authorization", "bearer all")), 200),
            ("/api/tags", Some(("authorization", "Basic all")), 401),
            ("/api/tags", Some(("x-api-key", "ask")), 200),
            ("/api/tags", Some(("x-api-key", "as")), 401),
            ("/api/tags", Some(("x-api-key", "")), 401),
            ("/api/delete", Some(("x-api-key", "ask")), 403),
            ("/api/delete", Some(("x-api-key", "all")), 200),
            ("/api/blobs/sha256:x", Some(("x-api-key", "ask")), 403),
            ("/metrics", None, 401),
            ("/api/conversations", None, 401),
            ("/api/conversations/12345678", Some(("x-api-key", "ask")), 200),
        ] {
            assert_eq!(check(path, key), expected, "{path} {key:?}");
        }
    }
}
