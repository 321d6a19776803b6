// The page in a real Chromium against the mock server: what it shows, what it sends, and that it stays accessible.
// Needs Debian's `chromium`, or CHROMIUM=/path/to/it. Screenshots go to web/shots.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { start } from "./mock.mjs";

const web = join(dirname(fileURLToPath(import.meta.url)), "..");
const shots = join(web, "shots");
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
mkdirSync(shots, { recursive: true });

const profile = mkdtempSync(join(tmpdir(), "whit-web-"));
const server = await start(join(web, "dist"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  viewport: { width: 1280, height: 860 },
  colorScheme: "light",
});
const page = context.pages()[0] ?? (await context.newPage());
page.setDefaultTimeout(8000);
const complaints = [];
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(String(error)));
page.on("dialog", (dialog) => dialog.accept());

const shot = (name) => page.screenshot({ path: join(shots, `${name}.png`) });
const composer = () => page.getByRole("textbox", { name: "Message", exact: true });
const answers = () => page.locator("article.assistant");
const finished = () => page.getByRole("button", { name: "Send", exact: true }).waitFor();
async function say(text) {
  await composer().fill(text);
  await composer().press("Enter");
}
async function axe(where) {
  // The page's own policy forbids injected scripts; the debugger's evaluate is not bound by it.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  assert.deepEqual(violations.map((found) => `${where}: ${found.id}: ${found.nodes.map((node) => node.html).join(" ").slice(0, 300)}`), []);
}
async function noSideways(where) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${where} is ${wide} px too wide`);
}

const steps = {
  async "an empty page"() {
    await page.goto(server.url);
    await page.getByRole("heading", { name: "What shall we look into?" }).waitFor();
    await page.getByRole("button", { name: /Model: smollm2/ }).waitFor();
    await shot("empty-light");
    await axe("empty");
  },
  async "a conversation streams, is highlighted and counted"() {
    await say("Explain what a hash map is");
    await page.getByRole("button", { name: "Stop" }).waitFor();
    await finished();
    assert.match(page.url(), /\/c\/[0-9a-f]+$/);
    await answers().last().locator("h3", { hasText: "How it works" }).waitFor();
    await answers().last().locator(".k-keyword", { hasText: "def" }).first().waitFor();
    assert.equal(await answers().last().locator("td.to-center").count(), 2);
    assert.match(await answers().last().locator(".stats").innerText(), /^4[67]\.\d tokens\/s · \d+ tokens$/);
    assert.match(await page.locator(".use").innerText(), /\/ 4,096/);
    await shot("chat-light");
    await axe("chat, light");
    await page.emulateMedia({ colorScheme: "dark" });
    await shot("chat-dark");
    await axe("chat, dark");
    await page.emulateMedia({ colorScheme: "light" });
  },
  async "stop in mid-stream closes the connection and keeps what was said"() {
    const before = server.aborted;
    await say("count for me");
    await answers().last().getByText("20 21").waitFor();
    await page.keyboard.press("Escape");
    await answers().last().getByText("Stopped.").waitFor();
    await page.waitForTimeout(100);
    assert.equal(server.aborted, before + 1);
    const text = await answers().last().innerText();
    await page.waitForTimeout(300);
    assert.equal(await answers().last().innerText(), text);
  },
  async "a reload keeps the conversation"() {
    await page.reload();
    await answers().last().getByText("Stopped.").waitFor();
    assert.equal(await answers().count(), 2);
    await page.getByRole("link", { name: "Explain what a hash map is" }).waitFor();
  },
  async "a reload in mid-stream keeps the part"() {
    await say("count again");
    await answers().last().getByText("150 151").waitFor();
    await page.reload();
    await answers().last().getByText("Stopped.").waitFor();
    assert.match(await answers().last().innerText(), /20 21/);
  },
  async "regenerate and edit make branches"() {
    await page.getByRole("button", { name: "New conversation" }).click();
    await say("short one");
    await finished();
    const first = await answers().last().locator(".prose").innerText();
    await answers().last().getByRole("button", { name: "Regenerate" }).click();
    await answers().last().getByText("2/2").waitFor();
    await finished();
    assert.notEqual(await answers().last().locator(".prose").innerText(), first);
    await answers().last().getByRole("button", { name: "Earlier version" }).click();
    assert.equal(await answers().last().locator(".prose").innerText(), first);
    await composer().press("ArrowUp");
    await page.getByRole("textbox", { name: "Edit your message" }).fill("short two");
    await page.keyboard.press("Enter");
    await page.locator("article.user").getByText("short two").waitFor();
    await finished();
    assert.deepEqual(server.seen.at(-1).messages, [{ role: "user", content: "short two" }]);
    await page.locator("article.user").getByRole("button", { name: "Earlier version" }).click();
    await page.locator("article.user").getByText("short one").waitFor();
    await answers().last().getByText("2/2").waitFor();
  },
  async "system prompt, sampling and schema reach the server"() {
    await page.keyboard.press("Control+.");
    await page.getByLabel("System prompt").fill("You are terse.");
    await page.getByLabel("Temperature").fill("0.2");
    await page.getByLabel("Stop texts").fill("END");
    await page.getByRole("radio", { name: "Schema" }).check();
    const schema = page.getByRole("textbox", { name: "JSON schema" });
    await schema.fill("{");
    await page.getByText("The schema is not valid JSON").waitFor();
    await axe("panel");
    await schema.fill('{"type": "object"}');
    await shot("panel-light");
    await say("short again");
    await finished();
    const { messages, options, format } = server.seen.at(-1);
    assert.equal(messages[0].content, "You are terse.");
    assert.deepEqual(options, { temperature: 0.2, stop: ["END"] });
    assert.deepEqual(format, { type: "object" });
    await page.getByRole("button", { name: "Close the settings" }).click();
  },
  async "attachments go as text"() {
    await page.getByRole("button", { name: "New conversation" }).click();
    await page.locator("form.composer input[type=file]").setInputFiles({ name: "notes.md", mimeType: "text/markdown", buffer: Buffer.from("alpha ``` beta\n") });
    await page.getByText("notes.md").waitFor();
    await say("short summary");
    await finished();
    assert.equal(server.seen.at(-1).messages[0].content, "File: notes.md\n````\nalpha ``` beta\n````\n\nshort summary");
  },
  async "what a model writes stays text"() {
    await say("something hostile");
    await finished();
    await page.waitForTimeout(200);
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    assert.equal(await answers().last().locator("img, script, svg:not(button svg), iframe").count(), 0);
    const links = await answers().last().locator("a").evaluateAll((all) => all.map((link) => link.href));
    assert.deepEqual(links, ["https://example.invalid/leak.png"]);
  },
  async "errors are said"() {
    await say("refuse this");
    await answers().last().getByText("the prompt has 9000 tokens").waitFor();
    complaints.splice(0);
    await say("break off please");
    await answers().last().getByText("The connection broke off").waitFor();
    await shot("error-light");
    complaints.splice(0);
  },
  async "search, rename, export, import"() {
    await page.keyboard.press("Control+k");
    await page.keyboard.type("hash bucket");
    await page.waitForFunction(() => document.querySelectorAll(".sidebar li").length === 1);
    const row = page.locator(".sidebar li");
    await row.hover();
    await row.getByRole("button", { name: /Rename/ }).click();
    await page.getByLabel("New name").fill("Maps of hashes");
    await page.keyboard.press("Enter");
    await page.getByRole("link", { name: "Maps of hashes" }).waitFor();
    await page.getByPlaceholder("Search").fill("");
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    await shot("settings-light");
    await axe("settings");
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export all" }).click()]);
    const text = readFileSync(await download.path(), "utf8");
    await page.keyboard.press("Escape");
    const row2 = page.locator(".sidebar li", { hasText: "Maps of hashes" });
    await row2.hover();
    await row2.getByRole("button", { name: /Delete/ }).click();
    await page.waitForFunction(() => ![...document.querySelectorAll(".sidebar li")].some((row) => row.textContent.includes("Maps of hashes")));
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    await page.locator("input[accept]").setInputFiles({ name: "x.json", mimeType: "application/json", buffer: Buffer.from(text) });
    await page.getByRole("link", { name: "Maps of hashes" }).click();
    await answers().first().getByText("How it works").waitFor();
  },
  async "the picker pulls a model"() {
    await page.keyboard.press("Control+Shift+M");
    await shot("picker-light");
    await axe("picker");
    await page.keyboard.type("tiny");
    await page.keyboard.press("Enter");
    await page.getByRole("progressbar").waitFor();
    await page.getByRole("button", { name: "Model: tiny:latest" }).waitFor();
    await page.keyboard.press("Escape");
  },
  async "models and status"() {
    await page.getByRole("link", { name: "Models", exact: true }).click();
    await page.getByText("In memory: 92.0 MB").waitFor();
    await shot("models-light");
    await axe("models");
    await page.getByRole("button", { name: "Show smollm2:135m" }).click();
    await page.getByText("llama.context_length").waitFor();
    await shot("show-light");
    await axe("show");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Delete" }).last().click();
    await page.getByRole("heading", { name: "tiny:latest" }).waitFor({ state: "detached" });
    await page.getByLabel("Model to pull").fill("nobody");
    await page.keyboard.press("Enter");
    await page.getByText("no such model: nobody").waitFor();
    await page.getByRole("link", { name: "Status" }).click();
    await page.getByText("whit_tokens_generated_total").waitFor();
    await page.getByText("78.0 ms").waitFor();
    await page.getByText("0.1.0", { exact: true }).waitFor();
    await shot("status-light");
    await axe("status");
    await page.goto(`${server.url}/models`);
    await page.getByRole("heading", { name: "Models" }).waitFor();
  },
  async "the theme is chosen and kept"() {
    await page.getByRole("button", { name: /^Theme/ }).click();
    await page.getByRole("button", { name: "Theme: light" }).click();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    await page.reload();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    await page.getByRole("heading", { name: "smollm2:135m" }).waitFor();
    await shot("models-dark");
    await axe("models, dark");
    await page.getByRole("button", { name: "Theme: dark" }).click();
  },
  async "a phone"() {
    await page.setViewportSize({ width: 390, height: 844 });
    await page.goto(server.url);
    await page.getByRole("heading", { name: "What shall we look into?" }).waitFor();
    await noSideways("empty");
    await page.getByRole("button", { name: "Show the sidebar" }).click();
    await page.waitForTimeout(250);
    await shot("phone-drawer");
    await page.getByRole("link", { name: "Maps of hashes" }).click();
    await answers().first().getByText("How it works").waitFor();
    await page.waitForTimeout(250);
    await noSideways("chat");
    await page.locator(".pane").evaluate((pane) => (pane.scrollTop = 0));
    await page.waitForTimeout(100);
    await shot("phone-chat");
    await axe("phone");
    for (const path of ["models", "status"]) {
      await page.goto(`${server.url}/${path}`);
      await page.waitForTimeout(300);
      await noSideways(path);
      await shot(`phone-${path}`);
    }
  },
};

let failed = 0;
const only = process.argv[2];
try {
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
      console.log(`ok    ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}\n${error.stack}`);
      await shot(`failed-${failed}`);
      if (only === "--first") break;
    }
  }
  if (complaints.length) {
    failed += 1;
    console.log(`FAIL  the console is clean\n${complaints.join("\n")}`);
  }
} finally {
  await context.close();
  server.close();
  rmSync(profile, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
