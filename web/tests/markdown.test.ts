// Markdown to data. Expected trees follow the CommonMark specification's examples, numbered where one is taken from it.

import { expect, test } from "vitest";

import { parseBlocks, StreamingMarkdown, type Block } from "../src/lib/markdown/blocks";
import { parseInline, safeHref, type Inline } from "../src/lib/markdown/inline";

/** The tree as HTML, for reading only; the page never makes any. */
function inlineHtml(nodes: Inline[]): string {
  return nodes
    .map((node) => {
      if (node.t === "text") return node.s.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
      if (node.t === "code") return `<code>${node.s}</code>`;
      if (node.t === "br") return "<br>";
      if (node.t === "link") return `<a href="${node.href}">${inlineHtml(node.c)}</a>`;
      return `<${node.t}>${inlineHtml(node.c)}</${node.t}>`;
    })
    .join("");
}
function html(blocks: Block[]): string {
  return blocks
    .map((block) => {
      if (block.t === "p") return `<p>${inlineHtml(block.c)}</p>`;
      if (block.t === "h") return `<h${block.level}>${inlineHtml(block.c)}</h${block.level}>`;
      if (block.t === "code") return `<pre ${block.lang}${block.open ? " open" : ""}>${block.text}</pre>`;
      if (block.t === "quote") return `<blockquote>${html(block.b)}</blockquote>`;
      if (block.t === "hr") return "<hr>";
      if (block.t === "table") return `<table>${[block.head, ...block.rows].map((row) => row.map(inlineHtml).join("|")).join("/")}</table>`;
      const tag = block.ordered ? "ol" : "ul";
      const start = block.start === 1 ? "" : ` ${block.start}`;
      return `<${tag}${start}>${block.items.map((item) => `<li${item.task === null ? "" : item.task ? " x" : " _"}>${html(item.b)}</li>`).join("")}</${tag}>`;
    })
    .join("");
}

test.each([
  ["*foo bar*", "<em>foo bar</em>"], // 350
  ["a * foo bar*", "a * foo bar*"], // 351
  ["foo*bar*", "foo<em>bar</em>"], // 355
  ["_ foo bar_", "_ foo bar_"], // 359
  ["пристаням_стремятся_", "пристаням_стремятся_"], // 363
  ["**foo bar**", "<strong>foo bar</strong>"], // 378
  ["foo__bar__", "foo__bar__"], // 388
  ["***foo***", "<strong><em>foo</em></strong>"],
  ["**a *b* c**", "<strong>a <em>b</em> c</strong>"],
  ["*a **b** c*", "<em>a <strong>b</strong> c</em>"],
  ["~~gone~~ ~kept~", "<del>gone</del> ~kept~"],
  ["snake_case_name and 2*3*4", "snake_case_name and 2<em>3</em>4"],
  ["`foo`", "<code>foo</code>"], // 328
  ["`` foo ` bar ``", "<code>foo ` bar</code>"], // 329
  ["*a `*` b*", "<em>a <code>*</code> b</em>"],
  ["`open", "`open"],
  ["\\*not emphasized*", "*not emphasized*"], // 14
  ["\\(x^2\\)", "\\(x^2\\)"],
  ["a<br>b", "a<br>b"],
  ["one\ntwo", "one<br>two"],
  ['[a](https://e.org/x_(y) "t")', '<a href="https://e.org/x_(y)">a</a>'],
  ["[a](<https://e.org/b>)", '<a href="https://e.org/b">a</a>'],
  ["see https://e.org/a, or (https://e.org/b).", 'see <a href="https://e.org/a">https://e.org/a</a>, or (<a href="https://e.org/b">https://e.org/b</a>).'],
  ["<https://e.org>", '<a href="https://e.org">https://e.org</a>'],
  ["![alt](https://e.org/p.png)", '<a href="https://e.org/p.png">alt</a>'],
  ["[a](javascript:alert(1))", "a"],
  ["<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"],
  ["&lt;", "&amp;lt;"],
])("inline %j", (source, expected) => {
  expect(inlineHtml(parseInline(source))).toBe(expected);
});

test.each([
  ["https://e.org", true],
  ["mailto:a@e.org", true],
  ["HTTP://e.org", true],
  ["javascript:alert(1)", false],
  [" java\tscript:alert(1)", false],
  ["\u0001javascript:alert(1)", false],
  ["data:text/html,x", false],
  ["vbscript:x", false],
  ["file:///etc/passwd", false],
  ["//e.org", false],
  ["/api/delete", false],
])("address %j", (address, allowed) => {
  expect(safeHref(address) !== null).toBe(allowed);
});

test.each([
  ["# a\n## b ##\n#c", "<h1>a</h1><h2>b</h2><p>#c</p>"], // 62, 64, 71
  ["***\n---\n___", "<hr><hr><hr>"], // 43
  ["```\n<\n >\n```", "<pre >< \n >\n</pre>".replace("< \n", "<\n").replace("\n</pre>", "</pre>")], // 119
  ["````\naaa\n```\n``````", "<pre >aaa\n```</pre>"], // 124
  ["```py\nx = 1", "<pre py open>x = 1</pre>"],
  ["~~~ruby x\na\n~~~\nb", "<pre ruby>a</pre><p>b</p>"], // 143
  ["```make\nall:\n\techo\n```", "<pre make>all:\n\techo</pre>"],
  ["> # Foo\n> bar\nbaz", "<blockquote><h1>Foo</h1><p>bar<br>baz</p></blockquote>"], // 228, 232
  ["- a\n- b\n\n- c", "<ul><li><p>a</p></li><li><p>b</p></li><li><p>c</p></li></ul>"], // 306
  ["3. a\n4. b", "<ol 3><li><p>a</p></li><li><p>b</p></li></ol>"],
  ["1. a\n   - b\n   - c\n2. d", "<ol><li><p>a</p><ul><li><p>b</p></li><li><p>c</p></li></ul></li><li><p>d</p></li></ol>"],
  ["1. a\n  - b\n2. c", "<ol><li><p>a</p><ul><li><p>b</p></li></ul></li><li><p>c</p></li></ol>"],
  ["- a\n\n  ```\n  code\n  ```\n- b", "<ul><li><p>a</p><pre >code</pre></li><li><p>b</p></li></ul>"],
  ["- [x] a\n- [ ] b", "<ul><li x><p>a</p></li><li _><p>b</p></li></ul>"],
  ["the year\n1984. It was", "<p>the year<br>1984. It was</p>"],
  ["text\n- a", "<p>text</p><ul><li><p>a</p></li></ul>"],
  ["| a | b |\n|:--|--:|\n| 1 | `x|y` |\n| 2 |", "<table>a|b/1|<code>x|y</code>/2|</table>"],
  ["a | b", "<p>a | b</p>"],
  ["a\n\nb", "<p>a</p><p>b</p>"],
  ["", ""],
])("blocks %j", (source, expected) => {
  expect(html(parseBlocks(source.split("\n")))).toBe(expected);
});

const LONG = [
  "# Title\n\nSome *text* with `code`.\n\n1. one\n\n   still one\n2. two\n   - deep\n\nAfter.\r\n\r\n",
  "```js\nconst a = 1;\n\n// blank above\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quote\n> more\n\n---\n\nEnd **bold",
].join("");

test("a growing text parses as the whole does at every length", () => {
  const parser = new StreamingMarkdown();
  for (let n = 0; n <= LONG.length; n += 1) {
    const text = LONG.slice(0, n);
    const whole = parseBlocks(text.replace(/\r\n?/g, "\n").split("\n"));
    expect(html(parser.update(text)), JSON.stringify(text)).toBe(html(whole));
  }
  expect(html(parser.update("other"))).toBe("<p>other</p>");
});

test("hostile lengths end soon", () => {
  const began = performance.now();
  for (const piece of ["*", "[", "`", "_a", "> ", "- ", "[a](", "![", "~~", "|", "<", "**a "]) {
    parseBlocks([piece.repeat(5000)]);
    parseBlocks(Array.from({ length: 500 }, (_, i) => " ".repeat(i % 60) + piece));
  }
  expect(performance.now() - began).toBeLessThan(3000);
});
