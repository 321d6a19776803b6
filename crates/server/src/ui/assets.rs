//! The built page, one row per file. Written by `npm run build` in `web/`; not to be edited.

use super::Asset;

/// SHA-256 over the sources that this bundle was built from.
#[cfg(test)]
pub(super) const SOURCES: &str = "325b7382b004a049e8ae3042291ecc240abab3c441abcf02ef2f9d4189ac03ce";

#[rustfmt::skip]
pub(super) static ASSETS: &[Asset] = &[
    Asset { path: "/assets/favicon.svg", media: "image/svg+xml", etag: "10d1a361553095d1", immutable: false, gzip: include_bytes!("dist/assets/favicon.svg.gz") },
    Asset { path: "/assets/highlight-B4zRgFr6.js", media: "text/javascript; charset=utf-8", etag: "04991a6762138bf6", immutable: true, gzip: include_bytes!("dist/assets/highlight-B4zRgFr6.js.gz") },
    Asset { path: "/assets/index-DA8wzwpH.css", media: "text/css; charset=utf-8", etag: "a01446c0ad630c8f", immutable: true, gzip: include_bytes!("dist/assets/index-DA8wzwpH.css.gz") },
    Asset { path: "/assets/index-wIaEK0c3.js", media: "text/javascript; charset=utf-8", etag: "2c04b23104a302dc", immutable: true, gzip: include_bytes!("dist/assets/index-wIaEK0c3.js.gz") },
    Asset { path: "/assets/theme.js", media: "text/javascript; charset=utf-8", etag: "e5e827666313ee0d", immutable: false, gzip: include_bytes!("dist/assets/theme.js.gz") },
    Asset { path: "/index.html", media: "text/html; charset=utf-8", etag: "87e9d7a0e251c1f3", immutable: false, gzip: include_bytes!("dist/index.html.gz") },
];
