// The page in a real Chromium on a running `whit serve` with a real model: node tests/e2e.mjs (WHIT_URL, WHIT_MODEL, CHROMIUM).
// `cargo xtask web` starts the server; it must allow the origins http://friend.example:*. Screenshots go to web/shots.
//
// What a small model does not do on demand (calls of functions, long Markdown, a slow download) comes by the import, or from
// a stand-in for the one endpoint.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { TALKS, talk } from "./talks.mjs";

const url = process.env.WHIT_URL;
const model = process.env.WHIT_MODEL ?? "smollm2:135m";
if (!url) throw new Error("WHIT_URL is not set; `cargo xtask web` starts a server and sets it");
const FIRST_LOAD_LIMIT = 120_000;
const MAX_FAILED = 3;
const shots = join(dirname(fileURLToPath(import.meta.url)), "../shots");
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
rmSync(shots, { recursive: true, force: true });
mkdirSync(shots, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    "--host-resolver-rules=MAP *.example 127.0.0.1",
  ],
});
const complaints = [];
const outside = [];
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, colorScheme: "light", permissions: ["clipboard-read", "clipboard-write"], ...options });
  context.on("page", (page) => {
    page.setDefaultTimeout(Number(process.env.PATIENCE ?? 30_000));
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("request", (request) => /^(blob|data):/.test(request.url()) || new URL(request.url()).origin === url || outside.push(request.url()));
  });
  await context.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`)));
  return context;
}
const context = await open();
const page = await context.newPage();

const shot = (name) => page.screenshot({ path: join(shots, `${name}.png`) });
const composer = (on = page) => on.getByRole("textbox", { name: "Message", exact: true });
const answers = (on = page) => on.locator("article.assistant");
const prose = (on = page) => answers(on).last().locator(".prose");
const row = (title) => page.locator(".sidebar li", { hasText: title });
const finished = (on = page) => on.getByRole("button", { name: "Send", exact: true }).waitFor();
const kept = async (id) => (await fetch(`${url}/api/conversations/${id}`)).json();
const here = (on = page) => on.url().split("/c/")[1];
const grows = (length, on = page) => on.waitForFunction((n) => [...document.querySelectorAll("article.assistant .prose")].at(-1)?.innerText.length > n, length);
async function say(text, on = page) {
  await composer(on).fill(text);
  await composer(on).press("Enter");
}
async function fresh() {
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByRole("heading", { name: "What shall we look into?" }).waitFor();
}
/** What is asked for within `work` may fail, and the browser says so on its console. */
async function failing(work) {
  await work();
  complaints.splice(0);
}
async function until(what, test) {
  for (let i = 0; i < 100; i += 1) {
    if (await test()) return;
    await page.waitForTimeout(50);
  }
  assert.fail(`never ${what}`);
}
async function axe(where, on = page) {
  for (const scheme of ["light", "dark"]) {
    await on.emulateMedia({ colorScheme: scheme });
    // Colours fade into each other; what is halfway has no contrast to speak of.
    await on.waitForTimeout(180);
    // The page's own policy forbids injected scripts; the debugger's evaluate is not bound by it.
    await on.evaluate(AXE);
    const { violations } = await on.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
    assert.deepEqual(violations.map((found) => `${where}, ${scheme}: ${found.id}: ${found.nodes.map((node) => node.html).join(" ").slice(0, 300)}`), []);
    await on.screenshot({ path: join(shots, `${where}-${scheme}.png`) });
  }
  await on.emulateMedia({ colorScheme: "light" });
}
async function noSideways(where, on = page) {
  const wide = await on.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${where} is ${wide} px too wide`);
}
const importFile = async (text) => {
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await page.locator("input[accept]").setInputFiles({ name: "x.json", mimeType: "application/json", buffer: Buffer.from(text) });
};
const exportOf = (conversations) => JSON.stringify({ kind: "whit-conversations", version: 1, conversations });

const steps = {
  async "what the browser kept moves to the server, once"() {
    await page.goto(`${url}/models`);
    await page.getByRole("heading", { name: model }).waitFor();
    const old = talk("from-the-browser-1", "Kept by the browser", [{ role: "user", content: "are you there" }]);
    await page.evaluate(
      (old) =>
        new Promise((resolve, reject) => {
          const request = indexedDB.open("whit", 1);
          request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" }).put(old);
          request.onsuccess = () => resolve(request.result.close());
          request.onerror = reject;
        }),
      old,
    );
    await page.goto(url);
    await page.getByText("One conversation of this browser moved to the server.").waitFor();
    await page.getByRole("link", { name: "Kept by the browser" }).waitFor();
    assert.deepEqual(await page.evaluate(() => indexedDB.databases()), []);
    assert.equal((await kept("from-the-browser-1")).title, "Kept by the browser");
    await page.reload();
    await page.getByRole("link", { name: "Kept by the browser" }).waitFor();
    assert.equal(await page.getByText("moved to the server").count(), 0);
  },
  async "the first load is small, compressed, and bound by a policy"() {
    const other = await open();
    const first = await other.newPage();
    const session = await other.newCDPSession(first);
    await session.send("Network.enable");
    let received = 0;
    session.on("Network.loadingFinished", ({ encodedDataLength }) => (received += encodedDataLength));
    const response = await first.goto(url, { waitUntil: "networkidle" });
    assert.ok(received > 10_000 && received <= FIRST_LOAD_LIMIT, `${received} bytes`);
    assert.match(response.headers()["content-security-policy"], /^default-src 'none'; script-src 'self'; style-src 'self';/);
    assert.equal(response.headers()["content-encoding"], "gzip");
    await other.close();
  },
  async "a conversation with a real model"() {
    await fresh();
    await page.getByRole("button", { name: `Model: ${model}` }).waitFor();
    await axe("empty");
    await page.keyboard.press("Control+.");
    await page.getByLabel("Temperature").fill("0");
    await page.getByLabel("Longest answer").fill("40");
    await page.getByRole("button", { name: "Use for new ones" }).click();
    await page.getByRole("button", { name: "Close the settings" }).click();
    await say("What is the capital of France? Answer in one sentence.");
    await page.getByRole("button", { name: "Stop" }).waitFor();
    await finished();
    assert.match(await prose().innerText(), /Paris/);
    assert.match(await answers().last().locator(".stats").innerText(), /smollm2:135m · [\d.]+ tokens\/s · \d+ tokens/);
    assert.match(await page.locator(".use").innerText(), /^\d+\s*\/ [\d,]+$/);
    await row("What is the capital of France?").waitFor();
    await say("And of Italy?");
    await answers().nth(1).waitFor();
    await finished();
    assert.match(await prose().innerText(), /Rome/);
    const text = await page.locator(".thread").innerText();
    await page.reload();
    await answers().nth(1).locator(".stats").waitFor();
    assert.equal(await page.locator(".thread").innerText(), text);
  },
  async "stop in mid-stream, which the server notices"() {
    await page.keyboard.press("Control+.");
    await page.getByLabel("Longest answer").fill("");
    await page.getByRole("button", { name: "Close the settings" }).click();
    await say("Write a very long story about a lighthouse.");
    await answers().nth(2).waitFor();
    await grows(60);
    await page.keyboard.press("Escape");
    await answers().last().getByText("Stopped.").waitFor();
    const text = await prose().innerText();
    await until("idle", async () => /whit_requests_running\{[^}]*\} 0/.test(await (await fetch(`${url}/metrics`)).text()));
    assert.equal(await prose().innerText(), text);
    assert.match(await (await fetch(`${url}/metrics`)).text(), /whit_cancelled_total 1/);
    await page.reload();
    await answers().last().getByText("Stopped.").waitFor();
    assert.equal(await prose().innerText(), text);
  },
  async "a reload in mid-stream keeps the part"() {
    await answers().last().getByRole("button", { name: "Regenerate" }).click();
    await page.getByRole("button", { name: "Stop" }).waitFor();
    await grows(90);
    await page.reload();
    await answers().last().getByText("2/2").waitFor();
    await answers().last().getByText("Stopped.").waitFor();
    assert.ok((await prose().innerText()).length > 60);
  },
  async "regenerate, edit and branch"() {
    await fresh();
    await say("Say the word one.");
    await page.locator("article.assistant .stats").waitFor();
    await answers().last().getByRole("button", { name: "Regenerate" }).click();
    await answers().last().getByText("2/2").waitFor();
    await finished();
    await answers().last().getByRole("button", { name: "Earlier version" }).click();
    await answers().last().getByText("1/2").waitFor();
    await composer().press("ArrowUp");
    await page.getByRole("textbox", { name: "Edit your message" }).fill("Say the word two.");
    const [request] = await Promise.all([page.waitForRequest(`${url}/api/chat`), page.keyboard.press("Enter")]);
    assert.deepEqual(request.postDataJSON().messages, [{ role: "user", content: "Say the word two." }]);
    assert.deepEqual(request.postDataJSON().options, { temperature: 0, num_predict: 40 });
    await page.locator("article.assistant .stats").waitFor();
    await finished();
    await page.locator("article.user").getByRole("button", { name: "Earlier version" }).click();
    await page.locator("article.user").getByText("Say the word one.").waitFor();
    await page.reload();
    await page.locator("article.user").getByText("Say the word one.").waitFor();
    assert.equal(Object.keys((await kept(here())).messages).length, 5);
  },
  async "system prompt and attachments reach the model as text"() {
    await fresh();
    await page.keyboard.press("Control+.");
    await page.getByLabel("System prompt").fill("You are terse.");
    await page.getByLabel("Stop texts").fill("END");
    await axe("panel");
    await page.getByRole("button", { name: "Close the settings" }).click();
    await page.locator("form.composer input[type=file]").setInputFiles({ name: "notes.md", mimeType: "text/markdown", buffer: Buffer.from("The code word is pelican. ``` \n") });
    await page.getByText("notes.md").waitFor();
    await composer().fill("What is the code word?");
    const [request] = await Promise.all([page.waitForRequest(`${url}/api/chat`), page.keyboard.press("Enter")]);
    const { messages, options } = request.postDataJSON();
    assert.deepEqual(messages[0], { role: "system", content: "You are terse." });
    assert.equal(messages[1].content, "File: notes.md\n````\nThe code word is pelican. ``` \n````\n\nWhat is the code word?");
    assert.deepEqual(options.stop, ["END"]);
    await page.locator("article.assistant .stats").waitFor();
    assert.match(await prose().innerText(), /pelican/i);
    await page.locator("form.composer input[type=file]").setInputFiles({ name: "x.bin", mimeType: "", buffer: Buffer.from([1, 0, 2]) });
    await page.getByText("x.bin is not a text file.").waitFor();
  },
  async "an answer bound to a schema"() {
    await fresh();
    await page.keyboard.press("Control+.");
    await page.getByRole("radio", { name: "Schema" }).check();
    const schema = page.getByRole("textbox", { name: "JSON schema" });
    await schema.fill("{");
    await page.getByText("The schema is not valid JSON").waitFor();
    await schema.fill('{"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "capital": {"type": "boolean"}}, "required": ["city", "capital"], "additionalProperties": false}');
    await page.getByLabel("Longest answer").fill("");
    await page.getByRole("button", { name: "Close the settings" }).click();
    await say("Tell me about Paris, as JSON.");
    await page.locator("article.assistant .stats").waitFor();
    const value = JSON.parse(await answers().last().locator("figure.code code").innerText());
    assert.deepEqual([Object.keys(value).sort(), typeof value.city, typeof value.capital], [["capital", "city"], "string", "boolean"]);
    await answers().last().locator(".k-name").first().waitFor();
    await shot("schema");
  },
  async "Markdown, highlighting, copying, thoughts and calls"() {
    await failing(async () => {
      await importFile("no JSON");
      await page.getByText("This file is not JSON.").waitFor();
      await importFile(exportOf([{ id: "x" }]));
      await page.getByText(/invalid JSON|missing field/).waitFor();
    });
    await importFile(exportOf(TALKS));
    await page.getByText("5 conversations are imported.").waitFor();
    await page.getByRole("link", { name: "Explain what a hash map is" }).click();
    await answers().first().locator("h3", { hasText: "How it works" }).waitFor();
    await answers().first().locator(".k-keyword", { hasText: "def" }).first().waitFor();
    assert.equal(await answers().first().locator("td.to-center").count(), 2);
    await answers().last().getByRole("button", { name: "Copy code" }).click();
    await page.getByText("Copied").waitFor();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^use std::collections::HashMap;\n/);
    const thoughts = answers().last().locator("details.thinking");
    assert.equal(await thoughts.evaluate((details) => details.open), false);
    await thoughts.locator("summary").click();
    await thoughts.getByText("the same idea in Rust").waitFor();
    await page.locator(".pane").evaluate((pane) => (pane.scrollTop = 0));
    await axe("chat");
    await page.getByRole("link", { name: "Will it snow" }).click();
    const call = page.getByRole("region", { name: "Call 1: forecast" });
    assert.equal(await call.locator("dl").innerText(), "city\nOslo\ndays\n2");
    await axe("calls");
  },
  async "what a model writes stays text"() {
    await page.getByRole("link", { name: "A page in a page" }).click();
    await answers().last().locator("figure.code").waitFor();
    await page.waitForTimeout(200);
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    assert.equal(await answers().last().locator("img, script, svg:not(button svg), iframe").count(), 0);
    assert.deepEqual(await answers().last().locator("a").evaluateAll((all) => all.map((link) => link.href)), ["https://example.invalid/leak.png"]);
  },
  async "calls of functions are shown, and their results given back"() {
    await fresh();
    await page.keyboard.press("Control+.");
    const functions = page.getByRole("textbox", { name: "Functions" });
    await functions.fill("[1]");
    await page.getByText("A function is described as").waitFor();
    const weather = { type: "function", function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } } };
    await functions.fill(JSON.stringify([weather]));
    await page.getByRole("button", { name: "Close the settings" }).click();
    const asked = [];
    const lines = [
      [{ message: { tool_calls: [{ function: { name: "weather", arguments: { city: "Oslo" } } }] } }, { done: true, eval_count: 9, eval_duration: 1e8, prompt_eval_count: 30 }],
      [{ message: { content: "Snow." } }, { done: true, eval_count: 2, eval_duration: 1e8, prompt_eval_count: 60 }],
    ];
    await page.route("**/api/chat", (route) => {
      asked.push(route.request().postDataJSON());
      return route.fulfill({ contentType: "application/x-ndjson", body: lines[asked.length - 1].map((line) => JSON.stringify(line)).join("\n") });
    });
    await say("How is the weather in Oslo?");
    await page.getByRole("textbox", { name: "Result of weather" }).fill("snow");
    await page.getByRole("button", { name: "Give the result to the model" }).click();
    await prose().getByText("Snow.").waitFor();
    await page.unroute("**/api/chat");
    assert.deepEqual(asked[0].tools, [weather]);
    assert.deepEqual(asked[1].messages.slice(1), [
      { role: "assistant", content: "", tool_calls: [{ function: { name: "weather", arguments: { city: "Oslo" } } }] },
      { role: "tool", content: "snow", tool_name: "weather" },
    ]);
  },
  async "errors are said"() {
    await fresh();
    await page.keyboard.press("Control+.");
    await page.getByRole("spinbutton", { name: /^Context/ }).fill("64");
    await page.getByRole("button", { name: "Close the settings" }).click();
    await failing(async () => {
      await say("word ".repeat(200));
      await answers().last().getByText(/the prompt of \d+ tokens is longer than the context of \d+/).waitFor();
      await page.route("**/api/chat", (route) => route.fulfill({ contentType: "application/x-ndjson", body: '{"message": {"content": "half of"}}\n' }));
      await answers().last().getByRole("button", { name: "Try again" }).click();
      await answers().last().getByText("The connection broke off").waitFor();
      await page.unroute("**/api/chat");
      await axe("error");
      await context.setOffline(true);
      await answers().last().getByRole("button", { name: "Try again" }).click();
      await answers().last().getByText("The server does not answer").waitFor();
      await page.getByText("Not kept yet, trying again").waitFor();
      await context.setOffline(false);
      await page.getByText("Not kept yet").waitFor({ state: "detached" });
    });
    const messages = Object.values((await kept(here())).messages);
    assert.equal(messages.filter((message) => message.role === "assistant").length, 3);
    await page.goto(`${url}/c/nobody-knows-it`);
    await page.getByRole("heading", { name: "No such conversation" }).waitFor();
    complaints.splice(0);
  },
  async "search, rename, export, delete and undo, import"() {
    await page.goto(url);
    await page.keyboard.press("Control+k");
    await page.keyboard.type("BUCKET load");
    await page.locator(".sidebar li .snippet").waitFor();
    assert.equal(await page.locator(".sidebar li").count(), 1);
    await axe("search");
    await row("hash map").getByRole("button", { name: /^More for/ }).click();
    await axe("menu");
    await page.getByRole("menuitem", { name: "Rename" }).click();
    await page.getByLabel("New name").fill("Maps of hashes");
    await page.keyboard.press("Enter");
    await row("Maps of hashes").waitFor();
    const save = async (command) => {
      await row("Maps of hashes").getByRole("button", { name: /^More for/ }).click();
      const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", { name: command }).click()]);
      return { name: download.suggestedFilename(), text: readFileSync(await download.path(), "utf8") };
    };
    const markdown = await save("Export as Markdown");
    assert.equal(markdown.name, "Maps of hashes.md");
    assert.match(markdown.text, /^# Maps of hashes\n\n## You\n\nExplain[^]*## smollm2:135m\n\nA \*\*hash map\*\*[^]*File: words.txt/);
    const one = await save("Export as JSON");
    assert.equal(JSON.parse(one.text).conversations[0].title, "Maps of hashes");
    await page.getByPlaceholder("Search").fill("");
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    await axe("settings");
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export all" }).click()]);
    const all = readFileSync(await download.path(), "utf8");
    const list = (await (await fetch(`${url}/api/conversations`)).json()).conversations;
    assert.deepEqual(JSON.parse(all).conversations.map(({ id }) => id).sort(), list.map(({ id }) => id).sort());
    await page.keyboard.press("Escape");
    const remove = async () => {
      await row("Maps of hashes").getByRole("button", { name: /^More for/ }).click();
      await page.getByRole("menuitem", { name: "Delete" }).click();
      await row("Maps of hashes").waitFor({ state: "detached" });
    };
    await remove();
    await page.getByRole("button", { name: "Undo" }).click();
    await row("Maps of hashes").waitFor();
    await until("there", async () => (await kept("hash-maps-0001")).title === "Maps of hashes");
    await remove();
    await until("gone", async () => (await kept("hash-maps-0001")).error !== undefined);
    await importFile(all);
    await page.getByText("One conversation is imported.").waitFor();
    await page.getByRole("link", { name: "Maps of hashes" }).click();
    await answers().first().getByText("How it works").waitFor();
  },
  async "two pages lose nothing of each other"() {
    const other = await open();
    const second = await other.newPage();
    await second.goto(page.url());
    await answers(second).first().waitFor();
    // The second page does not know what the first one says now.
    await say("Said by the first page.");
    await answers().nth(2).locator(".stats").waitFor();
    await say("Said by the second page.", second);
    await answers(second).nth(2).locator(".stats").waitFor();
    const id = here();
    await until("both kept", async () => {
      const contents = Object.values((await kept(id)).messages).map((message) => message.content);
      return ["first", "second"].every((which) => contents.includes(`Said by the ${which} page.`));
    });
    await second.close();
    await page.evaluate(() => dispatchEvent(new Event("focus")));
    await page.locator("article.user").getByText("2/2").or(page.locator("article.user").getByText("1/2")).waitFor();
    // Pages of one browser tell each other.
    const third = await context.newPage();
    await third.goto(url);
    await row("Maps of hashes").getByRole("button", { name: /^More for/ }).click();
    await page.getByRole("menuitem", { name: "Rename" }).click();
    await page.getByLabel("New name").fill("Told to others");
    await page.keyboard.press("Enter");
    await third.getByRole("link", { name: "Told to others" }).waitFor();
    await third.close();
    await other.close();
    complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes("412")));
  },
  async "the picker pulls a model, and shows how far it is"() {
    const gate = {};
    const open = new Promise((resolve) => (gate.open = resolve));
    const hub = createServer(async (_, response) => {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      response.write('{"status":"pulling abc","digest":"sha256:abc","total":1000000,"completed":250000}\n');
      await open;
      response.end('{"status":"success"}\n');
    });
    await new Promise((resolve) => hub.listen(0, "127.0.0.1", resolve));
    await page.route("**/api/pull", (route) => route.continue({ url: `http://127.0.0.1:${hub.address().port}/api/pull` }));
    await page.keyboard.press("Control+Shift+M");
    await axe("picker");
    await page.keyboard.type("smollm2:other");
    await page.keyboard.press("Enter");
    await page.getByText("25% · 250 KB of 1.0 MB").waitFor();
    await shot("pull");
    gate.open();
    await page.getByRole("progressbar").waitFor({ state: "detached" });
    hub.close();
    await page.unroute("**/api/pull");
    await page.keyboard.press("Escape");
  },
  async "the page of models"() {
    await fetch(`${url}/api/copy`, { method: "POST", body: JSON.stringify({ source: model, destination: "spare" }) });
    await page.getByRole("link", { name: "Models", exact: true }).click();
    await page.locator(".loaded", { hasText: "In memory" }).waitFor();
    await page.getByRole("heading", { name: "spare" }).waitFor();
    await axe("models");
    await page.getByRole("button", { name: `Show ${model}` }).click();
    await page.getByText("llama.context_length").waitFor();
    await axe("show");
    await page.keyboard.press("Escape");
    const spare = page.locator(".models li", { hasText: "spare" });
    await spare.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("button", { name: "Delete", exact: true }).last().click();
    await page.getByRole("heading", { name: "spare" }).waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Unload" }).first().click();
    await page.locator(".loaded").waitFor({ state: "detached" });
    await failing(async () => {
      await page.getByLabel("Model to pull").fill("nobody-has-this-model");
      await page.keyboard.press("Enter");
      await page.locator(".pull .error").waitFor();
    });
    await page.getByRole("button", { name: "Dismiss" }).click();
  },
  async "the page of status"() {
    await page.getByRole("link", { name: "Status" }).click();
    await page.getByText("Up and ready").waitFor();
    const tile = (name) => page.locator(".tiles div", { hasText: name }).locator("dd");
    await until("counted", async () => parseInt((await tile("Tokens generated").innerText()).replace(",", ""), 10) > 50);
    await page.locator("tr", { hasText: "/api/chat" }).first().waitFor();
    await page.getByText("All metrics").click();
    await page.getByPlaceholder("Filter").fill("generated");
    await page.getByText("whit_generated_tokens_total").waitFor();
    await axe("status");
    await failing(async () => {
      await context.setOffline(true);
      await page.getByText("The server does not answer").first().waitFor();
      await context.setOffline(false);
      await page.getByText("Up and ready").waitFor();
    });
  },
  async "the keys and the theme"() {
    await page.locator("h1").click();
    await page.keyboard.press("?");
    await page.getByRole("heading", { name: "Keyboard shortcuts" }).waitFor();
    await axe("keys");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Control+b");
    await page.getByRole("navigation", { name: "Conversations" }).waitFor({ state: "hidden" });
    await page.keyboard.press("Control+b");
    await page.keyboard.press("Control+Shift+O");
    await page.getByRole("heading", { name: "What shall we look into?" }).waitFor();
    await page.getByRole("button", { name: /^Theme/ }).click();
    await page.getByRole("button", { name: "Theme: light" }).click();
    const theme = () => page.evaluate(() => [document.documentElement.dataset.theme, getComputedStyle(document.documentElement).backgroundColor]);
    assert.deepEqual(await theme(), ["dark", "rgb(24, 24, 23)"]);
    await page.reload();
    assert.deepEqual(await theme(), ["dark", "rgb(24, 24, 23)"]);
    await page.getByRole("button", { name: "Theme: dark" }).click();
  },
  async "a phone"() {
    const pocket = await open({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
    const phone = await pocket.newPage();
    await phone.goto(url);
    await phone.getByRole("heading", { name: "What shall we look into?" }).waitFor();
    await noSideways("empty", phone);
    await axe("phone-empty", phone);
    await phone.getByRole("button", { name: "Show the sidebar" }).click();
    await phone.getByRole("link", { name: "Told to others" }).waitFor();
    await phone.waitForTimeout(250);
    await axe("phone-drawer", phone);
    await phone.getByRole("link", { name: "Told to others" }).click();
    await answers(phone).first().getByText("How it works").waitFor();
    await phone.locator(".pane").evaluate((pane) => (pane.scrollTop = 0));
    await phone.waitForTimeout(250);
    await noSideways("chat", phone);
    await axe("phone-chat", phone);
    await phone.getByRole("button", { name: "Settings of this conversation" }).click();
    await noSideways("panel", phone);
    for (const path of ["models", "status"]) {
      await phone.goto(`${url}/${path}`);
      await phone.locator(".page h2").first().waitFor();
      await noSideways(path, phone);
      await axe(`phone-${path}`, phone);
    }
    await pocket.close();
  },
  async "somebody else's page may ask when its origin is allowed, and else not"() {
    const text = `<!doctype html><meta charset="utf-8"><title>x</title><pre></pre><script type="module">
      const out = document.querySelector("pre");
      try {
        const body = { model: ${JSON.stringify(model)}, prompt: "What is the capital of France? Answer in one sentence.", stream: true, options: { temperature: 0, num_predict: 12 } };
        const response = await fetch("${url}/api/generate", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
        let rest = "";
        let done = false;
        for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
          const lines = (rest + part).split("\\n");
          rest = lines.pop();
          for (const line of lines.filter(Boolean).map((line) => JSON.parse(line))) {
            out.textContent += line.response;
            done ||= line.done;
          }
        }
        document.title = done ? "done" : "broken off";
      } catch (error) {
        document.title = "refused: " + error.message;
      }
    </script>`;
    const host = createServer((_, response) => response.writeHead(200, { "content-type": "text/html" }).end(text));
    await new Promise((resolve) => host.listen(0, "127.0.0.1", resolve));
    const { port } = host.address();
    // Not by `open`: what these pages ask for is another origin's by design.
    const elsewhere = await browser.newContext();
    const visitor = await elsewhere.newPage();
    for (const [name, title, said] of [
      ["friend.example", /^done$/, /Paris/],
      ["stranger.example", /^refused: /, /^$/],
      ["friend.example.evil.example", /^refused: /, /^$/],
    ]) {
      await visitor.goto(`http://${name}:${port}/`);
      await visitor.waitForFunction(() => document.title !== "x", undefined, { timeout: 30_000 });
      assert.match(await visitor.title(), title, name);
      assert.match(await visitor.locator("pre").innerText(), said, name);
    }
    await elsewhere.close();
    host.close();
  },
};

let failed = 0;
try {
  for (const [name, step] of Object.entries(steps)) {
    const began = Date.now();
    try {
      await step();
      console.log(`ok    ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}\n${error.stack}`);
      await shot(`failed-${failed}`);
      // What comes later builds on what came before.
      if (failed >= MAX_FAILED) break;
    }
    for (const [what, list] of [["complaints on the console", complaints], ["requests that leave the origin", outside]]) {
      if (!list.length) continue;
      failed += 1;
      console.log(`FAIL  ${name}: ${what}\n${list.splice(0).join("\n")}`);
    }
  }
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);
