// A conversation is a tree of messages: editing or regenerating adds a sibling, nothing is lost. Plain functions over plain data.

import type { Call, ChatMessage } from "./api";
import { noSampling, type Sampling } from "./settings.svelte";

export interface Attachment {
  name: string;
  text: string;
}
export interface Stats {
  promptTokens: number;
  tokens: number;
  /** Generated tokens a second, the prompt left out. */
  rate: number;
  /** Seconds until the first token. */
  first: number;
  reason: string;
}
export interface Message {
  id: string;
  parent: string | null;
  role: "user" | "assistant" | "tool";
  content: string;
  thinking?: string;
  attachments?: Attachment[];
  /** The functions that an answer calls. */
  calls?: Call[];
  /** The function whose result a message of role `tool` is. */
  tool?: string;
  model?: string;
  stats?: Stats;
  error?: string;
  /** Still being written, by this page or another. */
  live?: boolean;
  stopped?: boolean;
  at: number;
}
export interface Conversation {
  id: string;
  title: string;
  created: number;
  updated: number;
  model: string;
  sampling: Sampling;
  messages: Record<string, Message>;
  /** The last message of the branch that is shown. */
  leaf: string | null;
}

export const newId = () =>
  // randomUUID exists only in secure contexts; a page served over plain HTTP in a home network is none.
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export function newConversation(model: string, sampling: Sampling): Conversation {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, model, sampling: { ...sampling }, messages: {}, leaf: null };
}

/** A conversation as the server sent it. */
export function received(body: unknown): Conversation {
  const conversation = body as Conversation;
  return { ...conversation, sampling: { ...noSampling(), ...conversation.sampling } };
}

/** The messages from the first to the shown leaf. */
export function branch(conversation: Conversation): Message[] {
  const out: Message[] = [];
  const seen = new Set<string>();
  for (let id = conversation.leaf; id !== null && !seen.has(id); ) {
    const message: Message | undefined = conversation.messages[id];
    if (!message) break;
    seen.add(id);
    out.push(message);
    id = message.parent;
  }
  return out.reverse();
}

/** The versions of a message, oldest first. */
export function siblings(conversation: Conversation, message: Message): Message[] {
  return children(conversation, message.parent).filter((other) => other.role === message.role);
}

function children(conversation: Conversation, parent: string | null): Message[] {
  return Object.values(conversation.messages)
    .filter((message) => message.parent === parent)
    .sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
}

/** Adds a message under `parent` and shows its branch. */
export function append(conversation: Conversation, parent: string | null, message: Omit<Message, "id" | "parent" | "at">): Message {
  const id = newId();
  const latest = Object.values(conversation.messages).reduce((most, other) => Math.max(most, other.at), 0);
  conversation.messages[id] = { ...message, id, parent, at: Math.max(Date.now(), latest + 1) };
  conversation.leaf = id;
  conversation.updated = Date.now();
  return conversation.messages[id]!;
}

/** Shows another version: down to the newest end of its branch. */
export function show(conversation: Conversation, message: Message) {
  let leaf = message;
  const seen = new Set<string>();
  while (!seen.has(leaf.id)) {
    seen.add(leaf.id);
    const next = children(conversation, leaf.id).at(-1);
    if (!next) break;
    leaf = next;
  }
  conversation.leaf = leaf.id;
}

export function title(text: string): string {
  const line = text.trim().split("\n")[0]!.replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 57).trimEnd()}…` : line;
}

/** A user's message as the model reads it: attachments first, each fenced and named. */
export function withAttachments(message: Pick<Message, "content" | "attachments">): string {
  const files = (message.attachments ?? []).map(({ name, text }) => {
    const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
    const fence = "`".repeat(longest + 1);
    return `File: ${name}\n${fence}\n${text.replace(/\n$/, "")}\n${fence}\n\n`;
  });
  return files.join("") + message.content;
}

export function toRequest(conversation: Conversation, upTo: Message[]): ChatMessage[] {
  const system = conversation.sampling.system.trim();
  const out: ChatMessage[] = system ? [{ role: "system", content: system }] : [];
  for (const message of upTo) {
    const { role, content, calls, tool } = message;
    if (role === "user") out.push({ role, content: withAttachments(message) });
    else if (role === "tool") out.push({ role, content, tool_name: tool ?? "" });
    else if (calls?.length) out.push({ role, content, tool_calls: calls.map((call) => ({ function: call })) });
    else if (content) out.push({ role, content });
  }
  return out;
}

/** What of the settings goes into `options`: only what was set. */
export function options(sampling: Sampling): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const name of ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "num_predict", "num_ctx", "seed"] as const) {
    const value = sampling[name];
    if (typeof value === "number" && Number.isFinite(value)) out[name] = value;
  }
  const stop = sampling.stop.split("\n").filter(Boolean);
  if (stop.length) out.stop = stop;
  return out;
}

/** The `format` field, or an error that a user can act on. */
export function format(sampling: Sampling): { value?: unknown; error?: string } {
  if (sampling.format === "text") return {};
  if (sampling.format === "json") return { value: "json" };
  try {
    const value: unknown = JSON.parse(sampling.schema);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { value };
    return { error: "A JSON schema is an object, such as {\"type\": \"object\"}." };
  } catch (error) {
    return { error: `The schema is not valid JSON: ${(error as Error).message}` };
  }
}

/** The `tools` field, or an error that a user can act on. */
export function tools(sampling: Sampling): { value?: unknown[]; error?: string } {
  if (!sampling.tools.trim()) return {};
  try {
    const value: unknown = JSON.parse(sampling.tools);
    const list = Array.isArray(value) ? value : [value];
    const wrong = list.some((tool: { type?: unknown; function?: { name?: unknown } } | null) => typeof tool?.function?.name !== "string");
    return wrong ? { error: 'A function is described as {"type": "function", "function": {"name": …, "parameters": …}}.' } : { value: list };
  } catch (error) {
    return { error: `The functions are not valid JSON: ${(error as Error).message}` };
  }
}

const SPEAKERS = { user: "You", assistant: "Assistant", tool: "Result" };

export function toMarkdown(conversation: Conversation): string {
  const parts = [`# ${conversation.title || "Conversation"}\n`];
  if (conversation.sampling.system.trim()) parts.push(`> ${conversation.sampling.system.trim().replace(/\n/g, "\n> ")}\n`);
  for (const message of branch(conversation)) {
    const calls = (message.calls ?? []).map((call) => `\`\`\`json\n${JSON.stringify(call, null, 2)}\n\`\`\`\n`);
    const text = withAttachments(message).trim();
    parts.push(`## ${message.tool ?? message.model ?? SPEAKERS[message.role]}\n`, ...(text ? [`${text}\n`] : []), ...calls);
  }
  return parts.join("\n");
}
