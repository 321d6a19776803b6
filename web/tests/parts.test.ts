// The plain parts under the page: conversations as trees, merging, exports, metrics, highlighting.

import { beforeAll, expect, test } from "vitest";

import type { Conversation } from "../src/lib/conversation";

// Settings are read from storage when their module loads; outside a browser there is none, which must be no error.
let tree: typeof import("../src/lib/conversation");
let exports: typeof import("../src/lib/exports");
let merging: typeof import("../src/lib/merge");
let settings: typeof import("../src/lib/settings.svelte");
beforeAll(async () => {
  tree = await import("../src/lib/conversation");
  exports = await import("../src/lib/exports");
  merging = await import("../src/lib/merge");
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

test("an export is cut into portions; a foreign or damaged file is refused", () => {
  const talks = ["a", "b", "c"].map((id) => ({ id, text: "x".repeat(id === "b" ? 5_000_000 : 10) }));
  const portions = [...exports.batches(talks)];
  expect(portions.map((text) => exports.conversationsOf(text).length)).toEqual([1, 1, 1]);
  expect(portions.flatMap((text) => exports.conversationsOf(text))).toEqual(talks);
  expect([...exports.batches([{ id: 1 }, { id: 2 }])].length).toBe(1);
  expect([...exports.batches([])]).toEqual([]);
  for (const bad of ["null", "{}", '{"kind": "whit-conversations", "version": 2, "conversations": []}', '{"kind": "whit-conversations", "version": 1}']) {
    expect(() => exports.conversationsOf(bad), bad).toThrow();
  }
});

test("of two copies changed apart nothing is lost", () => {
  const talk = tree.newConversation("m", settings.noSampling());
  const q = tree.append(talk, null, { role: "user", content: "q" });
  tree.append(talk, q.id, { role: "assistant", content: "half", live: true });
  const base = merging.baseOf(structuredClone(talk));
  const [mine, theirs] = [structuredClone(talk), structuredClone(talk)];
  theirs.title = "renamed there";
  theirs.messages[theirs.leaf!]!.content = "half and all";
  theirs.messages[theirs.leaf!]!.live = false;
  tree.append(theirs, theirs.leaf, { role: "user", content: "said there" });
  mine.model = "other";
  tree.append(mine, q.id, { role: "assistant", content: "said here" });
  merging.absorb(mine, base, theirs);
  expect([mine.title, mine.model]).toEqual(["renamed there", "other"]);
  expect(Object.values(mine.messages).map((message) => message.content).sort()).toEqual(["half and all", "q", "said here", "said there"]);
  expect(Object.values(mine.messages).some((message) => message.live)).toBe(false);
  expect(said(mine)).toEqual(["q", "said here"]);
  // What this page is writing is not touched, and its branch stays in sight.
  const writer = structuredClone(talk);
  merging.absorb(writer, base, theirs, talk.leaf!);
  expect(said(writer)).toEqual(["q", "half"]);
  expect(writer.messages[talk.leaf!]!.live).toBe(true);
  // A page that changed nothing follows.
  const reader = structuredClone(talk);
  merging.absorb(reader, base, theirs);
  expect(said(reader)).toEqual(["q", "half and all", "said there"]);
});

test("calls of functions and their results go back to the model", () => {
  const talk = tree.newConversation("m", settings.noSampling());
  const q = tree.append(talk, null, { role: "user", content: "q" });
  const call = { name: "weather", arguments: { city: "Oslo" } };
  const a = tree.append(talk, q.id, { role: "assistant", content: "", calls: [call] });
  tree.append(talk, a.id, { role: "tool", tool: "weather", content: "snow" });
  expect(tree.toRequest(talk, tree.branch(talk))).toEqual([
    { role: "user", content: "q" },
    { role: "assistant", content: "", tool_calls: [{ function: call }] },
    { role: "tool", content: "snow", tool_name: "weather" },
  ]);
  expect(tree.toMarkdown(talk)).toContain('"city": "Oslo"');
  const tools = (text: string) => tree.tools({ ...settings.noSampling(), tools: text });
  expect(tools(" ")).toEqual({});
  expect(tools('{"function": {"name": "f"}}')).toEqual({ value: [{ function: { name: "f" } }] });
  for (const bad of ["{", "[1]", "null", '[{"function": {}}]']) expect(tools(bad).error, bad).toBeTruthy();
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
