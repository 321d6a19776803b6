// Conversations to look at: what a small model seldom writes on demand. They come in by the import, as anybody's would.

export const HOSTILE = `<img src=x onerror="window.pwned=1"><script>window.pwned=2</script>

[click](javascript:window.pwned=3) [tab](java\tscript:window.pwned=4) ![x](https://example.invalid/leak.png)

<svg onload="window.pwned=5"> | <a href="javascript:window.pwned=6">x</a>

\`\`\`html
<img src=x onerror="window.pwned=7">
\`\`\`

[data](data:text/html,<script>window.pwned=8</script>)
`;

const RICH = `A **hash map** stores pairs of *keys* and *values*, and finds a value in constant time on average.

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
            sieve[n * n :: n] = [False] * len(range(n * n, limit, n))

print(list(primes(50)), "and a line that is much longer than the column of text in which it stands, so that it must scroll")
\`\`\`

| operation | average | worst |
|:----------|:-------:|------:|
| insert    | O(1)    | O(n)  |
| find      | O(1)    | O(n)  |

> Keep the load factor below 0.75.

- [x] a fast hash
- [ ] a good hash

See [the article](https://en.wikipedia.org/wiki/Hash_table) or https://doc.rust-lang.org/std/collections/struct.HashMap.html for more.`;

const RUST = `Here it is in Rust, with the standard library's map:

\`\`\`rust
use std::collections::HashMap;

/// How often each word occurs.
fn count(text: &str) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}
\`\`\`

\`entry\` looks the key up once, whether it is there or not.`;

const stats = { promptTokens: 211, tokens: 388, rate: 46.9, first: 0.41, reason: "stop" };

/** A conversation of these messages, each the answer to the one before. */
export function talk(id, title, messages, ago = 0) {
  const at = Date.now() - ago;
  const ids = messages.map((_, n) => `${id}-${n}`);
  const entries = messages.map((message, n) => [ids[n], { id: ids[n], parent: ids[n - 1] ?? null, at: at + n, content: "", ...message }]);
  return { id, title, created: at, updated: at + messages.length, model: "smollm2:135m", sampling: { temperature: 0, num_predict: 30 }, messages: Object.fromEntries(entries), leaf: ids.at(-1) };
}

const DAY = 86_400_000;
export const TALKS = [
  talk("hash-maps-0001", "Explain what a hash map is, with a short example", [
    { role: "user", content: "Explain what a hash map is, with a short example" },
    { role: "assistant", model: "smollm2:135m", content: RICH, stats },
    { role: "user", content: "And in Rust?", attachments: [{ name: "words.txt", text: "one two two\n" }] },
    { role: "assistant", model: "smollm2:135m", content: RUST, thinking: "The user wants the same idea in Rust.\nThe standard library has a map, so I should use its entry interface.", stats: { ...stats, tokens: 131, rate: 44.2 } },
  ]),
  talk("weather-tools-1", "Will it snow in Oslo?", [
    { role: "user", content: "Will it snow in Oslo or in Bergen tomorrow?" },
    { role: "assistant", model: "qwen2.5-coder:0.5b", calls: [{ name: "forecast", arguments: { city: "Oslo", days: 2 } }, { name: "forecast", arguments: { city: "Bergen", days: 2, units: ["celsius", "mm"] } }] },
    { role: "tool", tool: "forecast", content: '{"snow_mm": 40}' },
    { role: "tool", tool: "forecast", content: '{"snow_mm": 0}' },
    { role: "assistant", model: "qwen2.5-coder:0.5b", content: "In Oslo yes: some 40 mm of snow are forecast. In Bergen it stays dry.", stats },
  ], DAY),
  talk("hostile-0001", "A page in a page", [{ role: "user", content: "Show me some HTML" }, { role: "assistant", model: "smollm2:135m", content: HOSTILE }], 3 * DAY),
  talk("rain-haiku-001", "Write a haiku about rain on a tin roof", [
    { role: "user", content: "Write a haiku about rain on a tin roof" },
    { role: "assistant", model: "smollm2:135m", content: "Rain taps the tin roof\na drummer without a song\nI listen till dawn", stats },
  ], 5 * DAY),
  talk("a-plan-of-work-1", "A plan for moving house with two cats and a piano", [
    { role: "user", content: "A plan for moving house with two cats and a piano" },
    { role: "assistant", model: "smollm2:135m", error: "the prompt of 9120 tokens is longer than the context of 4096; shorten it, start the server with a larger --ctx, or ask for `overflow`: `drop_oldest` or `shift`" },
  ], 12 * DAY),
];
