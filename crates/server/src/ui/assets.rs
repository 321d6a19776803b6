//! The built page, one row per file. Written by `npm run build` in `web/`; not to be edited.

use super::Asset;

/// SHA-256 over the sources that this bundle was built from.
#[cfg(test)]
pub(super) const SOURCES: &str = "9c687cbc1983669424c8d53c5502aa28999f222313c5d9901f716425ad30e4ae";

#[rustfmt::skip]
pub(super) static ASSETS: &[Asset] = &[
    Asset { path: "/assets/favicon.svg", media: "image/svg+xml", etag: "10d1a361553095d1", immutable: false, gzip: include_bytes!("dist/assets/favicon.svg.gz") },
    Asset { path: "/assets/highlight-B4zRgFr6.js", media: "text/javascript; charset=utf-8", etag: "04991a6762138bf6", immutable: true, gzip: include_bytes!("dist/assets/highlight-B4zRgFr6.js.gz") },
    Asset { path: "/assets/index-C-ZF55Wc.css", media: "text/css; charset=utf-8", etag: "1be94748f2f0054e", immutable: true, gzip: include_bytes!("dist/assets/index-C-ZF55Wc.css.gz") },
    Asset { path: "/assets/index-r1KFhJov.js", media: "text/javascript; charset=utf-8", etag: "81faff09e01ff4ff", immutable: true, gzip: include_bytes!("dist/assets/index-r1KFhJov.js.gz") },
    Asset { path: "/assets/theme.js", media: "text/javascript; charset=utf-8", etag: "e5e827666313ee0d", immutable: false, gzip: include_bytes!("dist/assets/theme.js.gz") },
    Asset { path: "/index.html", media: "text/html; charset=utf-8", etag: "31c82836d00a0d88", immutable: false, gzip: include_bytes!("dist/index.html.gz") },
];
