// The plain parts under the page: conversations as trees, exports, metrics, highlighting.

import { beforeAll, expect, test } from "vitest";

import type { Conversation } from "../src/lib/conversation";

// Settings are read from storage when their module loads; outside a browser there is none, which must be no error.
let tree: typeof import("../src/lib/conversation");
let store: typeof import("../src/lib/store");
let settings: typeof import("../src/lib/settings.svelte");
beforeAll(async () => {
  tree = await import("../src/lib/conversation");
  store = await import("../src/lib/store");
  settings = await import("../src/lib/settings.svelte");
});

const said = (conversation: Conversation) => tree.branch(conversation).map((message) => message.content);

test("editing branches and versions come back", () => {
  const talk = tree.newConversation("m", settings.noSampling());
  const q1 = tree.append(talk, null, { role: "user", content: "q1" });
  const a1 = tree.append(talk, q1.id, { role: "assistant", content: "a1" });
  tree.append(talk, a1.id, { role: "user", content: "q2" });
  const b1 = tree.append(talk, q1.id, { role: "assistant", content: "b1" });
  expect(said(talk)).toEqual(["q1", "b1"]);
  expect(tree.siblings(talk, b1).map((message) => message.content)).toEqual(["a1", "b1"]);
  tree.show(talk, a1);
  expect(said(talk)).toEqual(["q1", "a1", "q2"]);
  const edited = tree.append(talk, null, { role: "user", content: "q1 edited" });
  expect(said(talk)).toEqual(["q1 edited"]);
  expect(tree.siblings(talk, edited).length).toBe(2);
});

test("a cycle in a damaged import ends", () => {
  const talk = tree.newConversation("m", settings.noSampling());
  const a = tree.append(talk, null, { role: "user", content: "a" });
  const b = tree.append(talk, a.id, { role: "assistant", content: "b" });
  a.parent = b.id;
  expect(said(talk).length).toBe(2);
  tree.show(talk, a);
});

test("an export comes back the same; a foreign or damaged file is refused", () => {
  const talk = tree.newConversation("m", { ...settings.noSampling(), system: "s", temperature: 0.5 });
  talk.title = "t";
  const q = tree.append(talk, null, { role: "user", content: "q", attachments: [{ name: "f", text: "x" }] });
  tree.append(talk, q.id, { role: "assistant", content: "a", model: "m", stats: { promptTokens: 5, tokens: 2, rate: 1.5, first: 0.1, reason: "stop" } });
  expect(store.imported(store.exported([talk]))).toEqual([talk]);
  for (const bad of [
    "{}",
    '{"kind": "whit-conversations", "version": 2, "conversations": []}',
    '{"kind": "whit-conversations", "version": 1, "conversations": [null]}',
    '{"kind": "whit-conversations", "version": 1, "conversations": [{"id": "../x"}]}',
    '{"kind": "whit-conversations", "version": 1, "conversations": [{"id": "x", "messages": {"a": {"id": "a", "role": "root"}}}]}',
  ]) {
    expect(() => store.imported(bad), bad).toThrow();
  }
});

test("search wants every word", () => {
  const talk = tree.newConversation("m", settings.noSampling());
  talk.title = "Maps";
  tree.append(talk, null, { role: "user", content: "Hash tables" });
  for (const [query, found] of [["", true], ["hash MAPS", true], ["hash trees", false]] as const) {
    expect(store.matches(talk, query), query).toBe(found);
  }
});

test("only what was set is sent", () => {
  expect(tree.options(settings.noSampling())).toEqual({});
  expect(tree.options({ ...settings.noSampling(), temperature: 0, top_k: NaN, stop: "a\n\nb" })).toEqual({ temperature: 0, stop: ["a", "b"] });
  expect(tree.format({ ...settings.noSampling(), format: "json" })).toEqual({ value: "json" });
  expect(tree.format({ ...settings.noSampling(), format: "schema", schema: "[1]" }).error).toBeTruthy();
});

test("metrics", async () => {
  const { parseMetrics } = await import("../src/lib/metrics");
  const text = '# HELP a_total Things.\n# TYPE a_total counter\na_total{x="1"} 3\n# TYPE h histogram\nh_bucket{le="+Inf"} 4\nh_sum 2\nh_count 4\nnan NaN\n\n';
  const found = parseMetrics(text).map(({ name, labels, value }) => [name, labels, value]);
  expect(found).toEqual([["a_total", 'x="1"', 3], ["h", "", 0.5], ["nan", "", NaN]]);
});

test.each([
  ["rust", 'fn a<\'b>() -> u8 { println!("x"); } // c', "keyword:fn type:'b type:u8 call:println! string:\"x\" comment:// c"],
  ["python", "def f(x): # no\n  return '''a\nb''' + 1", "keyword:def call:f comment:# no keyword:return string:'''a\nb''' number:1"],
  ["json", '{"a": "b", "n": -1.5e3}', 'name:"a" string:"b" name:"n" number:1.5e3'],
  ["sql", "select count(*) FROM t -- x", "keyword:select call:count keyword:FROM comment:-- x"],
  ["diff", "-a\n+b\n c", "removed:-a added:+b"],
  ["nonsense", "if (x)", ""],
])("highlighting of %s", async (lang, code, expected) => {
  const { highlight } = await import("../src/lib/highlight");
  const tokens = highlight(lang, code);
  expect(tokens.map((token) => token.s).join("")).toBe(code);
  const shown = tokens.filter((token) => token.k).map((token) => `${token.k === "name" && lang === "rust" ? "type" : token.k}:${token.s}`);
  expect(shown.join(" ")).toBe(expected);
});

test("highlighting loses nothing and ends soon, whatever the text", async () => {
  const { highlight } = await import("../src/lib/highlight");
  const began = performance.now();
  for (const lang of ["js", "python", "rust", "c", "bash", "sql", "html", "css", "yaml", "ruby", "diff", "dockerfile"]) {
    for (const piece of ['"', "'", "/*", "<!--", "\\", "#", "a.", "$(", "r#\"", "```", "- ", "x:"]) {
      const code = piece.repeat(2000);
      expect(highlight(lang, code).map((token) => token.s).join("")).toBe(code);
    }
  }
  expect(performance.now() - began).toBeLessThan(3000);
});
