//! The built page, one row per file. Written by `npm run build` in `web/`; not to be edited.

use super::Asset;

/// SHA-256 over the sources that this bundle was built from.
#[cfg(test)]
pub(super) const SOURCES: &str = "aadbf8af4edc4927b46ef480f1bed98f15f8d740587ed4aa347f56b62482c4b4";

#[rustfmt::skip]
pub(super) static ASSETS: &[Asset] = &[
    Asset { path: "/assets/favicon.svg", media: "image/svg+xml", etag: "10d1a361553095d1", immutable: false, gzip: include_bytes!("dist/assets/favicon.svg.gz") },
    Asset { path: "/assets/highlight-B4zRgFr6.js", media: "text/javascript; charset=utf-8", etag: "04991a6762138bf6", immutable: true, gzip: include_bytes!("dist/assets/highlight-B4zRgFr6.js.gz") },
    Asset { path: "/assets/index-Bgf7IfZF.js", media: "text/javascript; charset=utf-8", etag: "fd43356d68c09606", immutable: true, gzip: include_bytes!("dist/assets/index-Bgf7IfZF.js.gz") },
    Asset { path: "/assets/index-ph7LDo4S.css", media: "text/css; charset=utf-8", etag: "9c10f4bb66ecc182", immutable: true, gzip: include_bytes!("dist/assets/index-ph7LDo4S.css.gz") },
    Asset { path: "/assets/theme.js", media: "text/javascript; charset=utf-8", etag: "e5e827666313ee0d", immutable: false, gzip: include_bytes!("dist/assets/theme.js.gz") },
    Asset { path: "/index.html", media: "text/html; charset=utf-8", etag: "9db7bbffc9211e08", immutable: false, gzip: include_bytes!("dist/index.html.gz") },
];
