// Where conversations are kept, behind an interface, so that the browser's database can give way to the server.

import type { Conversation, Message } from "../conversation";
import { noSampling } from "../settings.svelte";
import { IndexedDbStore, MemoryStore } from "./browser";

export interface ConversationStore {
  list(): Promise<Conversation[]>;
  put(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
  /** True when a reload will find what was put. */
  readonly lasting: boolean;
}

/** The browser's database; a private window may refuse it, and then memory must do. */
export async function openStore(): Promise<ConversationStore> {
  try {
    return await IndexedDbStore.open("whit");
  } catch {
    return new MemoryStore();
  }
}

/** Whether every word of the query is somewhere in the conversation. */
export function matches(conversation: Conversation, query: string): boolean {
  const wanted = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!wanted.length) return true;
  const text = [conversation.title, ...Object.values(conversation.messages).map((message) => message.content)].join("\n").toLowerCase();
  return wanted.every((word) => text.includes(word));
}

export const EXPORT_KIND = "whit-conversations";

export function exported(conversations: Conversation[]): string {
  return `${JSON.stringify({ kind: EXPORT_KIND, version: 1, conversations }, null, 1)}\n`;
}

/** Reads an export. Every field is checked: the file comes from outside. */
export function imported(text: string): Conversation[] {
  const data = JSON.parse(text) as { kind?: unknown; version?: unknown; conversations?: unknown };
  if (data.kind !== EXPORT_KIND || !Array.isArray(data.conversations)) throw new Error("This is not an export of Whit's conversations.");
  if (data.version !== 1) throw new Error(`This export has version ${String(data.version)}; this page reads version 1.`);
  return data.conversations.map(conversation);
}

const text = (value: unknown, fallback = "") => (typeof value === "string" ? value : fallback);
const number = (value: unknown) => (typeof value === "number" && Number.isFinite(value) ? value : 0);
const ID = /^[\w-]{1,64}$/;

function conversation(raw: unknown): Conversation {
  const from = (raw ?? {}) as Record<string, unknown>;
  const id = text(from.id);
  if (!ID.test(id)) throw new Error("A conversation in this file has no usable id.");
  const messages: Record<string, Message> = {};
  for (const value of Object.values((from.messages ?? {}) as Record<string, Record<string, unknown>>)) {
    const role = value.role;
    if (!ID.test(text(value.id)) || (role !== "user" && role !== "assistant")) throw new Error(`A message of "${text(from.title)}" is damaged.`);
    const message: Message = { id: text(value.id), parent: text(value.parent) || null, role, content: text(value.content), at: number(value.at) };
    if (typeof value.thinking === "string") message.thinking = value.thinking;
    if (typeof value.model === "string") message.model = value.model;
    if (typeof value.error === "string") message.error = value.error;
    if (value.stopped === true) message.stopped = true;
    if (Array.isArray(value.attachments)) {
      message.attachments = value.attachments.map((file: Record<string, unknown>) => ({ name: text(file?.name, "file"), text: text(file?.text) }));
    }
    if (typeof value.stats === "object" && value.stats !== null) {
      const { promptTokens, tokens, rate, first, reason } = value.stats as Record<string, unknown>;
      message.stats = { promptTokens: number(promptTokens), tokens: number(tokens), rate: number(rate), first: number(first), reason: text(reason) };
    }
    messages[message.id] = message;
  }
  const leaf = text(from.leaf);
  const sampling = { ...noSampling() };
  for (const [key, value] of Object.entries((from.sampling ?? {}) as Record<string, unknown>)) {
    if (key in sampling && (typeof value === "string" || typeof value === "number" || value === null)) Object.assign(sampling, { [key]: value });
  }
  return {
    id,
    title: text(from.title),
    created: number(from.created),
    updated: number(from.updated),
    model: text(from.model),
    sampling,
    messages,
    leaf: leaf in messages ? leaf : null,
  };
}
