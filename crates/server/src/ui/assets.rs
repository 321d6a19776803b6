//! The built page, one row per file. Written by `npm run build` in `web/`; not to be edited.

use super::Asset;

/// SHA-256 over the sources that this bundle was built from.
#[cfg(test)]
pub(super) const SOURCES: &str = "abbb70651eecfff201dfa7ea4413cb8c0277a1192c5508fda2436a13da5b29b7";

#[rustfmt::skip]
pub(super) static ASSETS: &[Asset] = &[
    Asset { path: "/assets/favicon.svg", media: "image/svg+xml", etag: "10d1a361553095d1", immutable: false, gzip: include_bytes!("dist/assets/favicon.svg.gz") },
    Asset { path: "/assets/highlight-B4zRgFr6.js", media: "text/javascript; charset=utf-8", etag: "04991a6762138bf6", immutable: true, gzip: include_bytes!("dist/assets/highlight-B4zRgFr6.js.gz") },
    Asset { path: "/assets/index-CeeRgGfs.js", media: "text/javascript; charset=utf-8", etag: "5ec49f4f8e704bbd", immutable: true, gzip: include_bytes!("dist/assets/index-CeeRgGfs.js.gz") },
    Asset { path: "/assets/index-Ciymq1Hf.css", media: "text/css; charset=utf-8", etag: "6d1d5b12895672af", immutable: true, gzip: include_bytes!("dist/assets/index-Ciymq1Hf.css.gz") },
    Asset { path: "/assets/theme.js", media: "text/javascript; charset=utf-8", etag: "e5e827666313ee0d", immutable: false, gzip: include_bytes!("dist/assets/theme.js.gz") },
    Asset { path: "/index.html", media: "text/html; charset=utf-8", etag: "64d9a0409697894d", immutable: false, gzip: include_bytes!("dist/index.html.gz") },
];
