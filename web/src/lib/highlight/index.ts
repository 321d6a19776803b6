// A small highlighter: one regular expression per language, tokens out, no HTML. Loaded only when an answer holds code.
// It knows comments, strings, numbers, words and calls, which is what makes code readable; it does not parse.

import { language, type Language } from "./languages";

export type Kind = "comment" | "string" | "number" | "keyword" | "type" | "call" | "name" | "added" | "removed" | "";
export interface Token {
  k: Kind;
  s: string;
}

/** Longer code is shown plain: colour is not worth a stall. */
const MAX_LENGTH = 100_000;
const compiled = new Map<Language, RegExp>();

export function highlight(lang: string, code: string): Token[] {
  const rules = language(lang);
  if (!rules || code.length > MAX_LENGTH) return [{ k: "", s: code }];
  const out: Token[] = [];
  const push = (k: Kind, s: string) => {
    const last = out[out.length - 1];
    if (last && last.k === k) last.s += s;
    else if (s) out.push({ k, s });
  };
  let at = 0;
  for (const match of code.matchAll(pattern(rules))) {
    push("", code.slice(at, match.index));
    at = match.index + match[0].length;
    push(kind(rules, match, code[at] ?? ""), match[0]);
  }
  push("", code.slice(at));
  return out;
}

function pattern(rules: Language): RegExp {
  let found = compiled.get(rules);
  if (!found) {
    const parts = [
      rules.comment && `(?<comment>${rules.comment})`,
      rules.string && `(?<string>${rules.string})`,
      rules.special && `(?<special>${rules.special})`,
      rules.words !== undefined && String.raw`(?<number>\b(?:0[xob][\da-fA-F_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)\w*)`,
      rules.words !== undefined && String.raw`(?<word>[A-Za-z_$][\w$]*!?)`,
    ];
    found = new RegExp(parts.filter(Boolean).join("|"), rules.insensitive ? "gmi" : "gm");
    compiled.set(rules, found);
  }
  return found;
}

function kind(rules: Language, match: RegExpMatchArray, next: string): Kind {
  const groups = match.groups!;
  if (groups.comment !== undefined) return "comment";
  if (groups.string !== undefined) return rules.names && next === ":" ? "name" : "string";
  if (groups.special !== undefined) return rules.classify ? rules.classify(match[0]) : "name";
  if (groups.number !== undefined) return "number";
  const word = match[0];
  const plain = rules.insensitive ? word.toLowerCase() : word;
  if (rules.words!.has(plain)) return "keyword";
  if (next === "(" || word.endsWith("!")) return "call";
  if (/^[A-Z][A-Za-z0-9]*[a-z]/.test(word)) return "type";
  return rules.types?.has(word) ? "type" : "";
}
