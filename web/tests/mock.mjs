// A stand-in for the server, for tests of the page alone: the few endpoints that it calls, with the headers of the real one.

import { createServer } from "node:http";
import { existsSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";

const MEDIA = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
export const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export const HOSTILE = `<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>

[click](javascript:window.pwned=3) [tab](java\tscript:window.pwned=4) ![x](https://example.invalid/leak.png)

<svg onload="window.pwned=5"> | <a href="javascript:window.pwned=6">x</a>

\`\`\`html
<img src=x onerror="window.pwned=7">
\`\`\`

[data](data:text/html,<script>window.pwned=8</script>)
`;

export const RICH = `A **hash map** stores pairs of *keys* and *values*, and finds a value in constant time on average.

## How it works

1. The key goes through a *hash function*: \`hash("blue")\`.
2. The result picks a **bucket**.
3. Collisions are resolved inside the bucket:
   - chaining, or
   - open addressing.

\`\`\`python
from collections.abc import Iterator

def primes(limit: int) -> Iterator[int]:
    """Every prime below limit."""
    sieve = [True] * limit  # 0 and 1 are skipped below
    for n in range(2, limit):
        if sieve[n]:
            yield n
            for multiple in range(n * n, limit, n):
                sieve[multiple] = False

print(list(primes(30)))
\`\`\`

| Operation | Average | Worst |
|:----------|:-------:|------:|
| Insert    | O(1)    | O(n)  |
| Look up   | O(1)    | O(n)  |

> A good hash function makes the worst case a matter of theory.

See [the article](https://en.wikipedia.org/wiki/Hash_table) for more.
`;

const MODELS = [
  ["smollm2:135m", 92_000_000, "llama", "134.5M", "Q4_1", 8192],
  ["gemma3:270m", 253_000_000, "gemma3", "268M", "Q4_K_M", 32768],
  ["qwen2.5-coder:1.5b", 1_117_000_000, "qwen2", "1.5B", "Q4_K_M", 32768],
].map(([name, size, family, parameter_size, quantization_level, context]) => ({
  name,
  model: name,
  size,
  digest: name,
  context,
  modified_at: new Date(Date.now() - 3 * 86_400_000).toISOString(),
  details: { format: "gguf", family, families: [family], parameter_size, quantization_level },
}));

const METRICS = `# HELP whit_requests_total Requests answered.
# TYPE whit_requests_total counter
whit_requests_total{api="ollama",status="200"} 41
# HELP whit_tokens_generated_total Tokens generated.
# TYPE whit_tokens_generated_total counter
whit_tokens_generated_total 10482
# HELP whit_queue_length Requests waiting.
# TYPE whit_queue_length gauge
whit_queue_length 0
# HELP whit_first_token_seconds Time to the first token.
# TYPE whit_first_token_seconds histogram
whit_first_token_seconds_bucket{le="0.1"} 10
whit_first_token_seconds_bucket{le="+Inf"} 41
whit_first_token_seconds_sum 3.2
whit_first_token_seconds_count 41
# HELP process_resident_memory_bytes Memory in use.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 412000000
`;

/** Serves the built page and the mock; `seen` collects the bodies of chat requests, `aborted` counts broken streams. */
export async function start(dist) {
  const state = { seen: [], aborted: 0, delay: 12, models: [...MODELS], url: "", close: () => {} };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://x");
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = chunks.length ? JSON.parse(Buffer.concat(chunks)) : {};
    const json = (value, status = 200) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(value));
    };
    const line = (value) => response.write(`${JSON.stringify(value)}\n`);
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const loaded = { ...MODELS[0], expires_at: new Date(Date.now() + 290_000).toISOString(), context_length: 4096, size_vram: 0 };
    if (pathname === "/api/version") return json({ version: "0.32.0", whit: "0.1.0" });
    if (pathname === "/api/tags") return json({ models: state.models });
    if (pathname === "/api/ps") return json({ models: [loaded] });
    if (pathname === "/healthz" || pathname === "/readyz") return json({});
    if (pathname === "/metrics") return response.end(METRICS);
    if (pathname === "/api/show") {
      const model = state.models.find((entry) => entry.name === body.model);
      if (!model) return json({ error: `model '${body.model}' not found` }, 404);
      return json({
        details: model.details,
        capabilities: ["completion", "tools"],
        template: "{% for message in messages %}...{% endfor %}",
        parameters: "temperature 0.2",
        model_info: { "general.architecture": model.details.family, "general.parameter_count": 134515008, [`${model.details.family}.context_length`]: model.context },
      });
    }
    if (pathname === "/api/delete") {
      state.models = state.models.filter((model) => model.name !== body.model);
      return response.end();
    }
    if (pathname === "/api/generate") return json({ done: true, done_reason: "unload" });
    if (pathname === "/api/pull") {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      if (body.model === "nobody") return response.end(JSON.stringify({ error: "no such model: nobody" }));
      line({ status: "pulling manifest" });
      for (let i = 1; i <= 10; i += 1) {
        line({ status: "pulling abc", digest: "sha256:abc", total: 1_000_000, completed: i * 100_000 });
        await pause(40);
      }
      state.models.push({ ...MODELS[0], name: `${body.model}:latest`, digest: body.model });
      return response.end(JSON.stringify({ status: "success" }));
    }
    if (pathname === "/api/chat") {
      state.seen.push(body);
      const said = body.messages.at(-1).content;
      if (said.includes("refuse")) return json({ error: "the prompt has 9000 tokens; the context holds 4096" }, 400);
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      const text = said.includes("hostile") ? HOSTILE : said.includes("count") ? Array.from({ length: 2000 }, (_, i) => `${i} `).join("") : said.includes("short") ? `Answer ${state.seen.length}.` : RICH;
      const pieces = text.match(/\s*\S{1,6}/g) ?? [];
      let open = true;
      response.on("close", () => {
        open = false;
        if (!response.writableFinished) state.aborted += 1;
      });
      for (const piece of pieces) {
        if (!open) return;
        line({ model: body.model, message: { role: "assistant", content: piece }, done: false });
        await pause(state.delay);
        if (said.includes("break off")) return response.destroy();
      }
      const n = pieces.length;
      return response.end(`${JSON.stringify({ message: { role: "assistant", content: "" }, done: true, done_reason: "stop", prompt_eval_count: 38, eval_count: n, eval_duration: n * 21_300_000 })}\n`);
    }
    let file = join(dist, pathname);
    if (!extname(file)) file = join(dist, "index.html");
    if (!existsSync(file)) return json({ error: "not found" }, 404);
    response.writeHead(200, { "content-type": MEDIA[extname(file)], "content-security-policy": CSP });
    response.end(readFileSync(file));
  });
  await new Promise((resolve) => server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", resolve));
  state.url = `http://127.0.0.1:${server.address().port}`;
  state.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return state;
}
