//! The built page, one row per file. Written by `npm run build` in `web/`; not to be edited.

use super::Asset;

/// SHA-256 over the sources that this bundle was built from.
#[cfg(test)]
pub(super) const SOURCES: &str = "6cd533a6856fb66b9b396e89c7d11fc6ff01363872fa35dfc2bfdf04742aedef";

#[rustfmt::skip]
pub(super) static ASSETS: &[Asset] = &[
    Asset { path: "/assets/favicon.svg", media: "image/svg+xml", etag: "10d1a361553095d1", immutable: false, gzip: include_bytes!("dist/assets/favicon.svg.gz") },
    Asset { path: "/assets/highlight-B4zRgFr6.js", media: "text/javascript; charset=utf-8", etag: "04991a6762138bf6", immutable: true, gzip: include_bytes!("dist/assets/highlight-B4zRgFr6.js.gz") },
    Asset { path: "/assets/index-C-ZF55Wc.css", media: "text/css; charset=utf-8", etag: "1be94748f2f0054e", immutable: true, gzip: include_bytes!("dist/assets/index-C-ZF55Wc.css.gz") },
    Asset { path: "/assets/index-NjGCkVm-.js", media: "text/javascript; charset=utf-8", etag: "fd74431bfb7b4238", immutable: true, gzip: include_bytes!("dist/assets/index-NjGCkVm-.js.gz") },
    Asset { path: "/assets/theme.js", media: "text/javascript; charset=utf-8", etag: "e5e827666313ee0d", immutable: false, gzip: include_bytes!("dist/assets/theme.js.gz") },
    Asset { path: "/index.html", media: "text/html; charset=utf-8", etag: "f74ce389513e950e", immutable: false, gzip: include_bytes!("dist/index.html.gz") },
];
