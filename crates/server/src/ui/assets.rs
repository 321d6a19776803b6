//! The built page, one row per file. Written by `npm run build` in `web/`; not to be edited.

use super::Asset;

/// SHA-256 over the sources that this bundle was built from.
#[cfg(test)]
pub(super) const SOURCES: &str = "9b7688fada6d7b7ccbac2da15a61a952aff8a9fe79d2df33434c77aab2880368";

#[rustfmt::skip]
pub(super) static ASSETS: &[Asset] = &[
    Asset { path: "/assets/favicon.svg", media: "image/svg+xml", etag: "10d1a361553095d1", immutable: false, gzip: include_bytes!("dist/assets/favicon.svg.gz") },
    Asset { path: "/assets/highlight-B4zRgFr6.js", media: "text/javascript; charset=utf-8", etag: "04991a6762138bf6", immutable: true, gzip: include_bytes!("dist/assets/highlight-B4zRgFr6.js.gz") },
    Asset { path: "/assets/index-DA8wzwpH.css", media: "text/css; charset=utf-8", etag: "a01446c0ad630c8f", immutable: true, gzip: include_bytes!("dist/assets/index-DA8wzwpH.css.gz") },
    Asset { path: "/assets/index-JEYL9-yd.js", media: "text/javascript; charset=utf-8", etag: "49a66059d6600584", immutable: true, gzip: include_bytes!("dist/assets/index-JEYL9-yd.js.gz") },
    Asset { path: "/assets/theme.js", media: "text/javascript; charset=utf-8", etag: "e5e827666313ee0d", immutable: false, gzip: include_bytes!("dist/assets/theme.js.gz") },
    Asset { path: "/index.html", media: "text/html; charset=utf-8", etag: "eb4a3a227453a0b3", immutable: false, gzip: include_bytes!("dist/index.html.gz") },
];
