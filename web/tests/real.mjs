// The page against a running `whit serve`: node tests/real.mjs http://127.0.0.1:11434 [model]
// A conversation with a real model, a stop in mid-stream, a reload, and a phone's width. Screenshots go to web/shots.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const [url, model] = process.argv.slice(2);
if (!url) {
  console.error("usage: node tests/real.mjs http://HOST:PORT [model]");
  process.exit(2);
}
const shots = join(dirname(fileURLToPath(import.meta.url)), "../shots");
mkdirSync(shots, { recursive: true });
const profile = mkdtempSync(join(tmpdir(), "whit-web-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  viewport: { width: 1280, height: 860 },
});
const page = context.pages()[0] ?? (await context.newPage());
page.setDefaultTimeout(60_000);
const complaints = [];
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(String(error)));
const shot = (name) => page.screenshot({ path: join(shots, `real-${name}.png`) });
const answer = () => page.locator("article.assistant").last();
async function say(text) {
  await page.getByRole("textbox", { name: "Message", exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

try {
  const response = await page.goto(url);
  assert.match(response.headers()["content-security-policy"], /^default-src 'none'/);
  assert.equal(response.headers()["content-encoding"], "gzip");
  await page.getByRole("heading", { name: "What shall we look into?" }).waitFor();
  if (model) {
    await page.getByRole("button", { name: /^Model: / }).click();
    await page.getByRole("combobox").fill(model);
    await page.keyboard.press("Enter");
  }
  await say("What is the capital of France? Answer in one sentence.");
  await answer().locator(".stats").waitFor();
  assert.match(await answer().locator(".prose").innerText(), /Paris/);
  console.log(await answer().locator(".stats").innerText());
  console.log(await page.locator(".use").innerText());
  await say("Write a Python function that finds prime numbers, and explain it at length.");
  await page.waitForFunction(() => [...document.querySelectorAll("article.assistant .prose")].at(-1)?.innerText.length > 150 && document.querySelectorAll("article.assistant .prose").length === 2);
  await shot("stream");
  await page.keyboard.press("Escape");
  await answer().getByText("Stopped.").waitFor();
  const kept = await answer().innerText();
  await page.reload();
  await answer().getByText("Stopped.").waitFor();
  assert.equal((await answer().innerText()).trim(), kept.trim());
  await page.setViewportSize({ width: 390, height: 844 });
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
  await shot("phone");
  await page.setViewportSize({ width: 1280, height: 860 });
  for (const path of ["models", "status"]) {
    await page.goto(`${url}/${path}`);
    await page.waitForTimeout(800);
    await shot(path);
  }
  assert.deepEqual(complaints, []);
  console.log("ok");
} catch (error) {
  await shot("failed");
  console.error(error, complaints);
  process.exitCode = 1;
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
