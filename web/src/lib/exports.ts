// The export format, as far as the page must know it: the server writes it whole, and reads it in portions.

const KIND = "whit-conversations";
/** Characters of a portion, well below what the server takes at once. */
const PORTION = 4_000_000;

/** The conversations of an export; what is in them, the server checks. */
export function conversationsOf(text: string): unknown[] {
  const data = JSON.parse(text) as { kind?: unknown; version?: unknown; conversations?: unknown } | null;
  if (data?.kind !== KIND || !Array.isArray(data.conversations)) throw new Error("This is not an export of Whit's conversations.");
  if (data.version !== 1) throw new Error(`This export has version ${String(data.version)}; this page reads version 1.`);
  return data.conversations;
}

/** Exports of a few conversations each. */
export function* batches(conversations: unknown[]): Generator<string> {
  let portion: string[] = [];
  let length = 0;
  const flush = () => `{"kind":"${KIND}","version":1,"conversations":[${portion.join(",")}]}`;
  for (const conversation of conversations) {
    const text = JSON.stringify(conversation);
    if (portion.length && length + text.length > PORTION) {
      yield flush();
      portion = [];
      length = 0;
    }
    portion.push(text);
    length += text.length;
  }
  if (portion.length) yield flush();
}

export const exportOf = (conversation: unknown) => [...batches([conversation])][0]!;
