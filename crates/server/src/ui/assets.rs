//! The built page, one row per file. Written by `npm run build` in `web/`; not to be edited.

use super::Asset;

/// SHA-256 over the sources that this bundle was built from.
#[cfg(test)]
pub(super) const SOURCES: &str = "95cfe259ca830064a03262ef53fd7747405eb075d8eeb6d67381d07a4662a79a";

#[rustfmt::skip]
pub(super) static ASSETS: &[Asset] = &[
    Asset { path: "/assets/favicon.svg", media: "image/svg+xml", etag: "10d1a361553095d1", immutable: false, gzip: include_bytes!("dist/assets/favicon.svg.gz") },
    Asset { path: "/assets/highlight-B4zRgFr6.js", media: "text/javascript; charset=utf-8", etag: "04991a6762138bf6", immutable: true, gzip: include_bytes!("dist/assets/highlight-B4zRgFr6.js.gz") },
    Asset { path: "/assets/index-B3B3NmeO.js", media: "text/javascript; charset=utf-8", etag: "a01e14e9b2a59cfa", immutable: true, gzip: include_bytes!("dist/assets/index-B3B3NmeO.js.gz") },
    Asset { path: "/assets/index-ph7LDo4S.css", media: "text/css; charset=utf-8", etag: "9c10f4bb66ecc182", immutable: true, gzip: include_bytes!("dist/assets/index-ph7LDo4S.css.gz") },
    Asset { path: "/assets/theme.js", media: "text/javascript; charset=utf-8", etag: "e5e827666313ee0d", immutable: false, gzip: include_bytes!("dist/assets/theme.js.gz") },
    Asset { path: "/index.html", media: "text/html; charset=utf-8", etag: "4519f5907823c043", immutable: false, gzip: include_bytes!("dist/index.html.gz") },
];
