//! The web chat: the page that `web/` builds, embedded compressed, with the headers that keep it to itself.
//!
//! Left out: anything dynamic. The page talks to the same APIs as every other client, and its addresses (`/c/<id>`,
//! `/models`, `/status`) all give the same document.

mod assets;

use std::io::Read as _;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use flate2::read::GzDecoder;

use crate::error::ApiError;
use crate::state::AppState;

/// One file of the built page.
struct Asset {
    path: &'static str,
    media: &'static str,
    /// Of the uncompressed bytes.
    etag: &'static str,
    /// Its name holds a digest of its content, so that it may be kept for ever.
    immutable: bool,
    gzip: &'static [u8],
}

/// Nothing from elsewhere, nothing inline: were text of a model ever to become markup, it could still load and run nothing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What clients of Ollama look for at `/` to see that a server is there.
const ALIVE: &str = "Ollama is running";

pub(crate) fn router() -> Router<AppState> {
    routes()
}

fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(root))
        .route("/models", get(page))
        .route("/status", get(page))
        .route("/c/{id}", get(page))
        .route("/assets/{name}", get(asset))
}

/// A browser gets the page; a program that only asks whether somebody is there gets the line that it expects.
async fn root(request: Request) -> Response {
    let wants_page =
        list(request.headers(), ACCEPT).any(|(item, weight)| item == "text/html" && weight > 0.0);
    let mut response = if wants_page {
        page(request).await
    } else {
        ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")], ALIVE)
            .into_response()
    };
    response.headers_mut().insert(VARY, axum::http::HeaderValue::from_static("accept, accept-encoding"));
    response
}

async fn page(request: Request) -> Response {
    serve("/index.html", request.uri().path(), request.headers())
}

async fn asset(request: Request) -> Response {
    serve(request.uri().path(), request.uri().path(), request.headers())
}

fn serve(name: &str, path: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = assets::ASSETS.iter().find(|asset| asset.path == name) else {
        return ApiError::NotFound(format!("there is nothing at {path}")).for_path(path);
    };
    let gzip = accepts_gzip(headers);
    // The two forms are different bytes, and a strong tag must tell them apart.
    let etag = format!("\"{}{}\"", asset.etag, if gzip { "-gz" } else { "" });
    let cache = if asset.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    let common = [
        (ETAG, etag.clone()),
        (CACHE_CONTROL, cache.to_owned()),
        (VARY, "accept-encoding".to_owned()),
        (CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
        (CROSS_ORIGIN_OPENER_POLICY, "same-origin".to_owned()),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin".to_owned()),
    ];
    if unchanged(headers, &etag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let media = [(CONTENT_TYPE, asset.media)];
    if gzip {
        return (common, media, [(CONTENT_ENCODING, "gzip")], Body::from(asset.gzip)).into_response();
    }
    let mut plain = Vec::new();
    match GzDecoder::new(asset.gzip).read_to_end(&mut plain) {
        Ok(_) => (common, media, plain).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The items of a comma-separated header with their weights (RFC 9110, section 12.4.2), in lower case.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = (String, f32)> {
    let items = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    items.flat_map(|value| value.split(',')).map(|item| {
        let mut parts = item.split(';').map(|part| part.trim().to_ascii_lowercase());
        let what = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").map(|q| q.parse().unwrap_or(0.0)));
        (what, weight.unwrap_or(1.0))
    })
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let weight =
        |coding: &str| list(headers, ACCEPT_ENCODING).find(|(item, _)| item == coding).map(|(_, q)| q);
    weight("gzip").or_else(|| weight("*")).is_some_and(|q| q > 0.0)
}

fn unchanged(headers: &HeaderMap, etag: &str) -> bool {
    list(headers, IF_NONE_MATCH).any(|(tag, _)| tag == "*" || tag.trim_start_matches("w/") == etag)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fmt::Write as _;
    use std::path::{Path, PathBuf};

    use sha2::{Digest as _, Sha256};

    use super::*;

    fn ask(handler: impl Fn(&HeaderMap) -> Response, headers: &[(HeaderName, &str)]) -> (Response, Vec<u8>) {
        let map = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let (parts, body) = handler(&map).into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(axum::body::to_bytes(body, 1 << 20)).unwrap();
        (Response::from_parts(parts, Body::empty()), bytes.to_vec())
    }

    fn index(headers: &[(HeaderName, &str)]) -> (Response, Vec<u8>) {
        ask(|map| serve("/index.html", "/", map), headers)
    }

    fn header(response: &Response, name: HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn at_root(accept: Option<&str>) -> Vec<u8> {
        let mut request = Request::builder().uri("/");
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        let request = request.body(Body::empty()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime
            .block_on(async { axum::body::to_bytes(root(request).await.into_body(), 1 << 20).await.unwrap() })
            .to_vec()
    }

    #[test]
    fn a_browser_gets_the_page_and_a_program_the_line() {
        let cases = [
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), true),
            (Some("*/*"), false),
            (Some("application/json, text/html;q=0"), false),
            (None, false),
        ];
        for (accept, wants_page) in cases {
            let body = at_root(accept);
            assert_eq!(body.starts_with(b"<!doctype html>"), wants_page, "{accept:?}");
            assert_eq!(body == b"Ollama is running", !wants_page, "{accept:?}");
        }
    }

    #[test]
    fn encodings() {
        let (plain, page) = index(&[]);
        assert!(page.starts_with(b"<!doctype html>"));
        assert_eq!(header(&plain, CONTENT_ENCODING), "");
        for (accept, gzip) in [
            ("gzip, deflate, br, zstd", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("gzip;q=0.000", false),
        ] {
            let (response, body) = index(&[(ACCEPT_ENCODING, accept)]);
            assert_eq!(header(&response, CONTENT_ENCODING) == "gzip", gzip, "{accept}");
            let mut unpacked = Vec::new();
            if gzip {
                GzDecoder::new(body.as_slice()).read_to_end(&mut unpacked).unwrap();
            }
            assert_eq!(if gzip { &unpacked } else { &body }, &page, "{accept}");
            assert_eq!(header(&response, ETAG) == header(&plain, ETAG), !gzip, "{accept}");
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let (first, _) = index(&[(ACCEPT_ENCODING, "gzip")]);
        let etag = header(&first, ETAG).to_owned();
        for (tag, status) in [
            (etag.clone(), 304),
            (format!("\"x\", W/{etag}"), 304),
            ("*".to_owned(), 304),
            ("\"x\"".to_owned(), 200),
        ] {
            let (response, body) = index(&[(ACCEPT_ENCODING, "gzip"), (IF_NONE_MATCH, &tag)]);
            assert_eq!(response.status().as_u16(), status, "{tag}");
            assert_eq!(body.is_empty(), status == 304, "{tag}");
            assert_eq!(header(&response, ETAG), etag);
        }
    }

    #[test]
    fn every_asset_unpacks_and_carries_the_headers() {
        assert!(assets::ASSETS.len() >= 4);
        for asset in assets::ASSETS {
            let (response, body) = ask(|map| serve(asset.path, asset.path, map), &[]);
            let digest = Sha256::digest(&body);
            assert_eq!(hex(&digest)[..16], *asset.etag, "{}", asset.path);
            assert_eq!(header(&response, CONTENT_TYPE), asset.media);
            assert_eq!(header(&response, X_CONTENT_TYPE_OPTIONS), "nosniff");
            let policy = header(&response, CONTENT_SECURITY_POLICY);
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(
                header(&response, CACHE_CONTROL).contains("immutable"),
                asset.immutable,
                "{}",
                asset.path
            );
        }
        let (response, _) = ask(|map| serve("/assets/../mod.rs", "/assets/../mod.rs", map), &[]);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    /// What the page asks for must be embedded, and none of it may be inline, which the policy forbids.
    #[test]
    fn the_page_names_only_files_that_are_embedded() {
        let (_, body) = index(&[]);
        let page = String::from_utf8(body).unwrap();
        let mut n_links = 0;
        for attribute in ["src=\"", "href=\""] {
            for rest in page.split(attribute).skip(1) {
                let path = &rest[..rest.find('"').unwrap()];
                assert!(assets::ASSETS.iter().any(|asset| asset.path == path), "{path}");
                n_links += 1;
            }
        }
        assert!(n_links >= 4, "{page}");
        assert!(
            page.split("<script").skip(1).all(|tag| tag[..tag.find('>').unwrap()].contains("src=")),
            "{page}"
        );
        assert!(!page.contains("<style") && !page.contains("style="), "{page}");
    }

    #[test]
    fn the_first_load_is_small() {
        let first = assets::ASSETS.iter().filter(|asset| !asset.path.contains("highlight-"));
        let n_bytes: usize = first.map(|asset| asset.gzip.len()).sum();
        assert!(n_bytes <= 120_000, "{n_bytes}");
    }

    /// The same list stands in `web/scripts/embed.mjs`.
    #[test]
    fn the_bundle_is_built_from_these_sources() {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
        let names = [
            "index.html",
            "package-lock.json",
            "package.json",
            "public",
            "scripts",
            "src",
            "svelte.config.js",
            "tsconfig.json",
            "vite.config.ts",
        ];
        let mut files = Vec::new();
        for name in names {
            walk(&web.join(name), &mut files);
        }
        let mut entries: Vec<(String, PathBuf)> = files
            .into_iter()
            .map(|path| (path.strip_prefix(&web).unwrap().to_str().unwrap().replace('\\', "/"), path))
            .collect();
        entries.sort();
        let mut digest = Sha256::new();
        for (name, path) in entries {
            let text = std::fs::read_to_string(path).unwrap().replace('\r', "");
            digest.update(format!("{name}\0{text}\0"));
        }
        assert_eq!(
            hex(&digest.finalize()),
            assets::SOURCES,
            "run `npm ci && npm run build` in web/ and commit the result"
        );
    }

    fn walk(path: &Path, out: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                walk(&entry.unwrap().path(), out);
            }
        } else {
            out.push(path.to_owned());
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut out, byte| {
            write!(out, "{byte:02x}").unwrap();
            out
        })
    }
}
