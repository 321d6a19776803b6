//! The built page, one row per file. Written by `npm run build` in `web/`; not to be edited.

use super::Asset;

/// SHA-256 over the sources that this bundle was built from.
#[cfg(test)]
pub(super) const SOURCES: &str = "b1d121051fafba81ce1bf796d7182bcc4893eb59be15b1e2c395a54624ff1f28";

#[rustfmt::skip]
pub(super) static ASSETS: &[Asset] = &[
    Asset { path: "/assets/favicon.svg", media: "image/svg+xml", etag: "10d1a361553095d1", immutable: false, gzip: include_bytes!("dist/assets/favicon.svg.gz") },
    Asset { path: "/assets/highlight-B4zRgFr6.js", media: "text/javascript; charset=utf-8", etag: "04991a6762138bf6", immutable: true, gzip: include_bytes!("dist/assets/highlight-B4zRgFr6.js.gz") },
    Asset { path: "/assets/index-BYEPzmUW.js", media: "text/javascript; charset=utf-8", etag: "f520d4dfa6a4a2e6", immutable: true, gzip: include_bytes!("dist/assets/index-BYEPzmUW.js.gz") },
    Asset { path: "/assets/index-Ciymq1Hf.css", media: "text/css; charset=utf-8", etag: "6d1d5b12895672af", immutable: true, gzip: include_bytes!("dist/assets/index-Ciymq1Hf.css.gz") },
    Asset { path: "/assets/theme.js", media: "text/javascript; charset=utf-8", etag: "e5e827666313ee0d", immutable: false, gzip: include_bytes!("dist/assets/theme.js.gz") },
    Asset { path: "/index.html", media: "text/html; charset=utf-8", etag: "d74ac802dba3e2dd", immutable: false, gzip: include_bytes!("dist/index.html.gz") },
];
