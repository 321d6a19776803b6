// Inline Markdown into a tree of plain data. No HTML is ever made: the tree becomes text nodes and a fixed set of elements,
// so that nothing a model writes can become markup. Left out: reference links, entities, raw HTML (shown as text).
// Truth: CommonMark 0.31 and GitHub's extensions, reduced to what models write.

export type Inline =
  | { t: "text"; s: string }
  | { t: "code"; s: string }
  | { t: "br" }
  | { t: "em"; c: Inline[] }
  | { t: "strong"; c: Inline[] }
  | { t: "del"; c: Inline[] }
  | { t: "link"; href: string; c: Inline[] };

const MAX_DEPTH = 12;
/** Beyond this many characters in one paragraph, it is shown as it is: the search for closers is quadratic at worst. */
const MAX_LENGTH = 8_000;
/** A letter or digit of any script, so that snake_case is no emphasis in any of them. */
const WORD = /[\p{L}\p{N}_]/u;
const ESCAPABLE = /[!"#$%&'*+,\-./:;<=>?@\\^_`{|}~]/;
const BARE_URL = /https?:\/\/[^\s<>"'`]+/y;
const BREAK_TAG = /<br\s*\/?>/iy;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]+)>/y;

/** The address if it is of a kind that may be followed from an answer, else null. */
export function safeHref(raw: string): string | null {
  // A browser drops control characters inside a scheme, so `java\tscript:` must be judged without them.
  const href = raw.replace(/[\u0000-\u0020\u007f]/g, "");
  return /^(https?:\/\/|mailto:)/i.test(href) ? href : null;
}

export function parseInline(source: string, depth = 0): Inline[] {
  if (source.length > MAX_LENGTH || depth > MAX_DEPTH) return source ? [{ t: "text", s: source }] : [];
  const out: Inline[] = [];
  let text = "";
  let i = 0;
  const flush = () => {
    if (text) out.push({ t: "text", s: text });
    text = "";
  };
  const push = (node: Inline, next: number) => {
    flush();
    out.push(node);
    i = next;
  };
  while (i < source.length) {
    const ch = source[i]!;
    if (ch === "\\") {
      const next = source[i + 1];
      if (next === "\n") push({ t: "br" }, i + 2);
      else if (next && ESCAPABLE.test(next)) {
        text += next;
        i += 2;
      } else {
        text += ch;
        i += 1;
      }
      continue;
    }
    if (ch === "\n") {
      text = text.replace(/ +$/, "");
      push({ t: "br" }, i + 1);
      continue;
    }
    if (ch === "`") {
      const run = runLength(source, i);
      const end = findRun(source, i + run, "`", run);
      if (end >= 0) {
        push({ t: "code", s: trimCode(source.slice(i + run, end)) }, end + run);
      } else {
        text += source.slice(i, i + run);
        i += run;
      }
      continue;
    }
    if (ch === "*" || ch === "_" || ch === "~") {
      const run = runLength(source, i);
      const found = emphasis(source, i, ch, run, depth);
      if (found) push(found.node, found.next);
      else {
        text += source.slice(i, i + run);
        i += run;
      }
      continue;
    }
    if (ch === "[" || (ch === "!" && source[i + 1] === "[")) {
      // A picture becomes a link: an answer must not make the browser fetch anything by itself.
      const found = link(source, ch === "!" ? i + 1 : i);
      if (found) {
        const label = parseInline(found.label || found.target, depth + 1);
        const href = safeHref(found.target);
        if (href) push({ t: "link", href, c: label }, found.next);
        else {
          flush();
          out.push(...label);
          i = found.next;
        }
        continue;
      }
    }
    if (ch === "<") {
      BREAK_TAG.lastIndex = AUTOLINK.lastIndex = i;
      if (BREAK_TAG.test(source)) {
        push({ t: "br" }, BREAK_TAG.lastIndex);
        continue;
      }
      const auto = AUTOLINK.exec(source);
      const href = auto && safeHref(auto[1]!);
      if (auto && href) {
        push({ t: "link", href, c: [{ t: "text", s: auto[1]! }] }, AUTOLINK.lastIndex);
        continue;
      }
    }
    if (ch === "h" && !/\w/.test(source[i - 1] ?? " ")) {
      BARE_URL.lastIndex = i;
      const bare = BARE_URL.exec(source);
      if (bare) {
        const url = trimUrl(bare[0]);
        push({ t: "link", href: url, c: [{ t: "text", s: url }] }, i + url.length);
        continue;
      }
    }
    text += ch;
    i += 1;
  }
  flush();
  return out;
}

function runLength(source: string, at: number): number {
  let end = at;
  while (source[end] === source[at]) end += 1;
  return end - at;
}

/** Where a run of exactly `length` of `mark` begins, or -1. */
function findRun(source: string, from: number, mark: string, length: number): number {
  for (let i = source.indexOf(mark, from); i >= 0; i = source.indexOf(mark, i)) {
    const run = runLength(source, i);
    if (run === length) return i;
    i += run;
  }
  return -1;
}

function trimCode(code: string): string {
  const flat = code.replace(/\n/g, " ");
  return flat.startsWith(" ") && flat.endsWith(" ") && flat.trim() ? flat.slice(1, -1) : flat;
}

function emphasis(source: string, at: number, mark: string, run: number, depth: number): { node: Inline; next: number } | null {
  if (mark === "~" ? run !== 2 : run > 3) return null;
  const after = source[at + run];
  if (after === undefined || /\s/.test(after)) return null;
  if (mark === "_" && WORD.test(source[at - 1] ?? " ")) return null;
  const end = closer(source, at + run, mark, run);
  if (end < 0) return null;
  const c = parseInline(source.slice(at + run, end), depth + 1);
  const next = end + run;
  if (mark === "~") return { node: { t: "del", c }, next };
  if (run === 1) return { node: { t: "em", c }, next };
  if (run === 2) return { node: { t: "strong", c }, next };
  return { node: { t: "strong", c: [{ t: "em", c }] }, next };
}

function closer(source: string, from: number, mark: string, run: number): number {
  for (let i = from; i < source.length; ) {
    const ch = source[i]!;
    if (ch === "\\") {
      i += 2;
    } else if (ch === "`") {
      const ticks = runLength(source, i);
      const end = findRun(source, i + ticks, "`", ticks);
      i = end < 0 ? i + ticks : end + ticks;
    } else if (ch === mark) {
      const length = runLength(source, i);
      const closes = !/\s/.test(source[i - 1]!) && !(mark === "_" && WORD.test(source[i + length] ?? " "));
      if (closes && length >= run && i > from && (length === run || length === 3)) return i + length - run;
      i += length;
    } else {
      i += 1;
    }
  }
  return -1;
}

function link(source: string, at: number): { label: string; target: string; next: number } | null {
  let depth = 0;
  let i = at;
  for (; i < source.length; i += 1) {
    if (source[i] === "\\") i += 1;
    else if (source[i] === "[") depth += 1;
    else if (source[i] === "]" && --depth === 0) break;
  }
  if (source[i] !== "]" || source[i + 1] !== "(") return null;
  const label = source.slice(at + 1, i);
  let end = i + 2;
  for (let parens = 1; end < source.length; end += 1) {
    if (source[end] === "\n") return null;
    if (source[end] === "(") parens += 1;
    else if (source[end] === ")" && --parens === 0) break;
  }
  if (source[end] !== ")") return null;
  const target = source
    .slice(i + 2, end)
    .trim()
    .replace(/\s+(".*"|'.*')$/, "")
    .replace(/^<(.*)>$/, "$1");
  return { label, target, next: end + 1 };
}

function trimUrl(url: string): string {
  let out = url.replace(/[.,;:!?*_~\]]+$/, "");
  while (out.endsWith(")") && out.split(")").length > out.split("(").length) out = out.slice(0, -1);
  return out;
}
