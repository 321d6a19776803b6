// Block structure of Markdown, as plain data, and a parser that keeps what is settled while an answer streams in.
// Left out: setext headings, indented code, HTML blocks, reference definitions. Truth: CommonMark 0.31, GitHub tables.

import { parseInline, type Inline } from "./inline";

export type Align = "left" | "center" | "right" | null;
export interface Item {
  /** Null when the item has no box. */
  task: boolean | null;
  b: Block[];
}
export type Block = (
  | { t: "p"; c: Inline[] }
  | { t: "h"; level: number; c: Inline[] }
  | { t: "code"; lang: string; text: string; open: boolean }
  | { t: "quote"; b: Block[] }
  | { t: "list"; ordered: boolean; start: number; loose: boolean; items: Item[] }
  | { t: "table"; align: Align[]; head: Inline[][]; rows: Inline[][][] }
  | { t: "hr" }
) & {
  /** The line on which the block starts, counted within its parent. */
  line: number;
};

const MAX_DEPTH = 16;
const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)(.*)$/;
const DELIMITER = /^ *\|? *:?-+:? *(\| *:?-+:? *)*\|? *$/;

export function parseBlocks(lines: string[], depth = 0): Block[] {
  const out: Block[] = [];
  let i = 0;
  while (i < lines.length) {
    const line = lines[i]!;
    const start = i;
    if (!line.trim()) {
      i += 1;
      continue;
    }
    const fence = FENCE.exec(line);
    if (fence) {
      const [, indent, marks, info] = fence as unknown as [string, string, string, string];
      const body: string[] = [];
      let open = true;
      for (i += 1; i < lines.length; i += 1) {
        const inner = lines[i]!;
        const trimmed = inner.trim();
        if (trimmed.length >= marks.length && trimmed === marks[0]!.repeat(trimmed.length)) {
          open = false;
          i += 1;
          break;
        }
        body.push(dedent(inner, indent.length));
      }
      out.push({ t: "code", lang: info.trim().split(/\s/)[0] ?? "", text: body.join("\n"), open, line: start });
      continue;
    }
    const heading = HEADING.exec(line);
    if (heading) {
      out.push({ t: "h", level: heading[1]!.length, c: parseInline(heading[2] ?? ""), line: start });
      i += 1;
      continue;
    }
    if (RULE.test(line)) {
      out.push({ t: "hr", line: start });
      i += 1;
      continue;
    }
    if (depth < MAX_DEPTH && QUOTE.test(line)) {
      const body: string[] = [];
      for (; i < lines.length && lines[i]!.trim() && (QUOTE.test(lines[i]!) || !startsBlock(lines[i]!)); i += 1) {
        body.push(lines[i]!.replace(QUOTE, ""));
      }
      out.push({ t: "quote", b: parseBlocks(body, depth + 1), line: start });
      continue;
    }
    if (depth < MAX_DEPTH && ITEM.test(line)) {
      const [block, next] = parseList(lines, i, depth);
      out.push(block);
      i = next;
      continue;
    }
    if (line.includes("|") && DELIMITER.test(lines[i + 1] ?? "") && cells(lines[i + 1]!).length === cells(line).length) {
      const align = cells(lines[i + 1]!).map(alignment);
      const rows: Inline[][][] = [];
      for (i += 2; i < lines.length && lines[i]!.trim() && lines[i]!.includes("|"); i += 1) {
        const row = cells(lines[i]!);
        rows.push(align.map((_, column) => parseInline(row[column] ?? "")));
      }
      out.push({ t: "table", align, head: cells(line).map((cell) => parseInline(cell)), rows, line: start });
      continue;
    }
    const body = [line.trimStart()];
    for (i += 1; i < lines.length && lines[i]!.trim() && !startsBlock(lines[i]!); i += 1) {
      if (lines[i]!.includes("|") && DELIMITER.test(lines[i + 1] ?? "")) break;
      body.push(lines[i]!.trimStart());
    }
    out.push({ t: "p", c: parseInline(body.join("\n").trimEnd()), line: start });
  }
  return out;
}

function startsBlock(line: string): boolean {
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) return true;
  const item = ITEM.exec(line);
  // Only a list that starts with 1 may interrupt a paragraph: "in\n1984. It was" is prose.
  return !!item && item[4] !== "" && (/^[-*+]$/.test(item[2]!) || /^1[.)]$/.test(item[2]!));
}

function parseList(lines: string[], at: number, depth: number): [Block, number] {
  const first = ITEM.exec(lines[at]!)!;
  const ordered = /\d/.test(first[2]!);
  const base = first[1]!.length;
  const items: Item[] = [];
  let loose = false;
  let i = at;
  while (i < lines.length) {
    const item = ITEM.exec(lines[i]!);
    if (!item || /\d/.test(item[2]!) !== ordered || item[1]!.length > base + 3 || item[1]!.length < base) break;
    if (RULE.test(lines[i]!)) break;
    const width = item[1]!.length + item[2]!.length + Math.min(Math.max(item[3]!.length, 1), 4);
    const body = [item[4]!];
    let blank = false;
    for (i += 1; i < lines.length; i += 1) {
      const line = lines[i]!.replace(/^\t+/, (tabs) => "    ".repeat(tabs.length));
      if (!line.trim()) {
        body.push("");
        blank = true;
        continue;
      }
      const indent = line.length - line.trimStart().length;
      // Models indent a sub-list by two under "1. "; anything deeper than the marker belongs to the item.
      if (indent >= width || (indent > item[1]!.length + 1 && ITEM.test(line))) {
        body.push(dedent(line, Math.min(indent, width)));
      } else if (!blank && !startsBlock(line) && !ITEM.test(line)) {
        body.push(line.trimStart());
        continue;
      } else {
        break;
      }
      if (blank && !ITEM.test(line)) loose = true;
      blank = false;
    }
    const next = lines[i];
    if (blank && next !== undefined && ITEM.test(next)) loose = true;
    while (body.length > 1 && !body[body.length - 1]) body.pop();
    const box = /^\[([ xX])\]\s+/.exec(body[0]!);
    if (box) body[0] = body[0]!.slice(box[0].length);
    items.push({ task: box ? box[1] !== " " : null, b: parseBlocks(body, depth + 1) });
  }
  return [{ t: "list", ordered, start: ordered ? parseInt(first[2]!, 10) : 1, loose, items, line: at }, i];
}

function dedent(line: string, columns: number): string {
  let n = 0;
  while (n < columns && line[n] === " ") n += 1;
  return line.slice(n);
}

/** The cells of a table's row; a pipe in code or behind a backslash does not divide. */
function cells(line: string): string[] {
  const out: string[] = [];
  let cell = "";
  let code = false;
  const row = line.trim().replace(/^\|/, "");
  for (let i = 0; i < row.length; i += 1) {
    const ch = row[i]!;
    if (ch === "\\" && row[i + 1] === "|") {
      cell += "|";
      i += 1;
    } else if (ch === "|" && !code) {
      out.push(cell.trim());
      cell = "";
    } else {
      if (ch === "`") code = !code;
      cell += ch;
    }
  }
  if (cell.trim()) out.push(cell.trim());
  return out;
}

function alignment(cell: string): Align {
  const left = cell.startsWith(":");
  const right = cell.endsWith(":");
  return left && right ? "center" : right ? "right" : left ? "left" : null;
}

/**
 * Parses a text that grows at its end. Blocks before the last one can no longer change, so that a step costs the length of
 * the last block, not of the answer.
 */
export class StreamingMarkdown {
  #settled: Block[] = [];
  /** The text that `#settled` covers; what follows is parsed anew at every step. */
  #prefix = "";
  #settledLines = 0;

  update(text: string): Block[] {
    if (!text.startsWith(this.#prefix)) {
      this.#settled = [];
      this.#prefix = "";
      this.#settledLines = 0;
    }
    const lines = text.slice(this.#prefix.length).replace(/\r\n?/g, "\n").split("\n");
    const tail = parseBlocks(lines).map((block) => ({ ...block, line: block.line + this.#settledLines }));
    const all = [...this.#settled, ...tail];
    const last = tail[tail.length - 1];
    if (last && tail.length > 1) {
      const done = last.line - this.#settledLines;
      let offset = this.#prefix.length;
      for (let n = 0; n < done; n += 1) offset = nextLine(text, offset);
      this.#settled = all.slice(0, -1);
      this.#prefix = text.slice(0, offset);
      this.#settledLines += done;
    }
    return all;
  }
}

function nextLine(text: string, from: number): number {
  for (let i = from; i < text.length; i += 1) {
    if (text[i] === "\n") return i + 1;
    if (text[i] === "\r") return text[i + 1] === "\n" ? i + 2 : i + 1;
  }
  return text.length;
}
