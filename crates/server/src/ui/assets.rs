//! The built page, one row per file. Written by `npm run build` in `web/`; not to be edited.

use super::Asset;

/// SHA-256 over the sources that this bundle was built from.
#[cfg(test)]
pub(super) const SOURCES: &str = "0a1656e050da798a9d079c100f42bd529402c8c680d8e2cf94149ce1890dd052";

#[rustfmt::skip]
pub(super) static ASSETS: &[Asset] = &[
    Asset { path: "/assets/favicon.svg", media: "image/svg+xml", etag: "10d1a361553095d1", immutable: false, gzip: include_bytes!("dist/assets/favicon.svg.gz") },
    Asset { path: "/assets/highlight-B4zRgFr6.js", media: "text/javascript; charset=utf-8", etag: "04991a6762138bf6", immutable: true, gzip: include_bytes!("dist/assets/highlight-B4zRgFr6.js.gz") },
    Asset { path: "/assets/index-DLRHoFSu.css", media: "text/css; charset=utf-8", etag: "12cb6e48b03d9a65", immutable: true, gzip: include_bytes!("dist/assets/index-DLRHoFSu.css.gz") },
    Asset { path: "/assets/index-b_eFFrf9.js", media: "text/javascript; charset=utf-8", etag: "fe4c57fd72548cc5", immutable: true, gzip: include_bytes!("dist/assets/index-b_eFFrf9.js.gz") },
    Asset { path: "/assets/theme.js", media: "text/javascript; charset=utf-8", etag: "e5e827666313ee0d", immutable: false, gzip: include_bytes!("dist/assets/theme.js.gz") },
    Asset { path: "/index.html", media: "text/html; charset=utf-8", etag: "817c21c83d30970f", immutable: false, gzip: include_bytes!("dist/index.html.gz") },
];
