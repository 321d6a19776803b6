// Puts the built page where the server embeds it: each file compressed, and a table of them in Rust.
// The table carries a digest of the sources, so that a test can tell when the bundle is older than they are.
// With --check it writes nothing, and fails when what is embedded is not what was built. Files are compared uncompressed:
// how well they are packed is a matter of Node's version.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, extname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, gunzipSync, gzipSync } from "node:zlib";

const web = join(dirname(fileURLToPath(import.meta.url)), "..");
const target = join(web, "../crates/server/src/ui");
// The same list stands in the test of crates/server/src/ui/mod.rs.
const SOURCES = ["index.html", "package-lock.json", "package.json", "public", "scripts", "src", "svelte.config.js", "tsconfig.json", "vite.config.ts"];
const FIRST_LOAD_LIMIT = 120_000;
const MEDIA = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml" };

function files(path) {
  return statSync(path).isDirectory() ? readdirSync(path).flatMap((name) => files(join(path, name))) : [path];
}
const short = (path, root) => relative(root, path).replaceAll("\\", "/");
const byText = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

const digest = createHash("sha256");
for (const path of SOURCES.flatMap((name) => files(join(web, name)).map((file) => short(file, web))).sort(byText)) {
  digest.update(`${path}\0${readFileSync(join(web, path), "utf8").replaceAll("\r", "")}\0`);
}

const rows = [];
const embedded = new Map();
let first = 0;
let total = 0;
const dist = join(web, "dist");
for (const path of files(dist).map((file) => short(file, dist)).sort(byText)) {
  const body = readFileSync(join(dist, path));
  const media = MEDIA[extname(path)];
  if (!media) throw new Error(`no media type for ${path}`);
  const packed = gzipSync(body, { level: constants.Z_BEST_COMPRESSION });
  embedded.set(`dist/${path}.gz`, packed);
  const immutable = /-[\w-]{8}\.(js|css)$/.test(path);
  const etag = createHash("sha256").update(body).digest("hex").slice(0, 16);
  rows.push(`    Asset { path: "/${path}", media: "${media}", etag: "${etag}", immutable: ${immutable}, gzip: include_bytes!("dist/${path}.gz") },`);
  total += packed.length;
  if (!path.startsWith("assets/highlight-")) first += packed.length;
}
if (first > FIRST_LOAD_LIMIT) throw new Error(`the first load is ${first} bytes; the limit is ${FIRST_LOAD_LIMIT}`);

embedded.set(
  "assets.rs",
  Buffer.from(`//! The built page, one row per file. Written by \`npm run build\` in \`web/\`; not to be edited.

use super::Asset;

/// SHA-256 over the sources that this bundle was built from.
#[cfg(test)]
pub(super) const SOURCES: &str = "${digest.digest("hex")}";

#[rustfmt::skip]
pub(super) static ASSETS: &[Asset] = &[
${rows.join("\n")}
];
`),
);

if (process.argv.includes("--check")) {
  const plain = (path, bytes) => (path.endsWith(".gz") ? gunzipSync(bytes) : bytes);
  const old = files(join(target, "dist")).map((file) => short(file, target)).filter((path) => !embedded.has(path));
  const stale = [...embedded].filter(([path, bytes]) => {
    const file = join(target, path);
    return !existsSync(file) || !plain(path, readFileSync(file)).equals(plain(path, bytes));
  });
  const wrong = [...old, ...stale.map(([path]) => path)];
  if (wrong.length) {
    console.error(`crates/server/src/ui is not what web/ builds: ${wrong.join(", ")}\n\nhint: run \`npm run build\` in web/ and commit the result`);
    process.exit(1);
  }
} else {
  rmSync(join(target, "dist"), { recursive: true, force: true });
  for (const [path, bytes] of embedded) {
    mkdirSync(dirname(join(target, path)), { recursive: true });
    writeFileSync(join(target, path), bytes);
  }
}
console.log(`${embedded.size - 1} files: ${total} bytes compressed, ${first} of them at the first load`);
