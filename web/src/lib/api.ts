// The server's own HTTP interface (the Ollama shapes), as far as the page needs it. Nothing else in the page calls fetch.

import { settings } from "./settings.svelte";

export interface ModelDetails {
  /** For another name of a model, which takes no room of its own. */
  parent_model?: string;
  format?: string;
  family?: string;
  parameter_size?: string;
  quantization_level?: string;
  context_length?: number;
}
export interface ModelEntry {
  name: string;
  size: number;
  digest: string;
  modified_at: string;
  details?: ModelDetails;
}
export interface LoadedModel extends ModelEntry {
  expires_at?: string;
  size_vram?: number;
  context_length?: number;
}
export interface ShowReply {
  license?: string;
  parameters?: string;
  template?: string;
  system?: string;
  details?: ModelDetails;
  model_info?: Record<string, unknown>;
  capabilities?: string[];
}
export interface Call {
  name: string;
  arguments: Record<string, unknown>;
}
export interface ChatMessage {
  role: "system" | "user" | "assistant" | "tool";
  content: string;
  tool_calls?: { function: Call }[];
  tool_name?: string;
}
export interface ChatRequest {
  model: string;
  messages: ChatMessage[];
  options?: Record<string, unknown>;
  format?: unknown;
  tools?: unknown;
}
export interface ChatChunk {
  message?: { content?: string; thinking?: string; tool_calls?: { function: Call }[] };
  done?: boolean;
  done_reason?: string;
  prompt_eval_count?: number;
  prompt_eval_duration?: number;
  eval_count?: number;
  eval_duration?: number;
  load_duration?: number;
  error?: string;
}
export interface PullProgress {
  status?: string;
  digest?: string;
  total?: number;
  completed?: number;
  error?: string;
}

/** One line of the list of conversations. */
export interface Summary {
  id: string;
  title: string;
  created: number;
  updated: number;
  model: string;
  n_messages: number;
  revision: number;
  snippet?: string;
}

/** A refusal of the server, with its own words. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

async function call(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (init.body) headers.set("content-type", "application/json");
  if (settings.apiKey) headers.set("authorization", `Bearer ${settings.apiKey}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(0, "The server does not answer. Is `whit serve` still running?");
  }
  if (response.ok) return response;
  throw new ApiError(response.status, await reason(response));
}

async function reason(response: Response): Promise<string> {
  const text = await response.text().catch(() => "");
  let message = text.trim().slice(0, 500);
  try {
    const body = JSON.parse(text) as { error?: string | { message?: string } };
    message = (typeof body.error === "string" ? body.error : body.error?.message) ?? message;
  } catch {
    // Not JSON: the text itself is the best there is.
  }
  if (response.status === 401) return `${message || "The server wants an API key."} Enter it under Settings.`;
  return message || `The server answered ${response.status}.`;
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

export function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** One JSON value per line, as the lines arrive. */
export async function* lines<T>(response: Response): AsyncGenerator<T> {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw isAbort(error) ? error : new ApiError(0, "The connection broke off in the middle of the answer.");
      });
      rest += value ?? "";
      const parts = rest.split("\n");
      rest = done ? "" : parts.pop()!;
      for (const part of parts) if (part.trim()) yield JSON.parse(part) as T;
      if (done) return;
    }
  } finally {
    // Leaving the loop early must close the connection, so that the server stops generating.
    reader.cancel().catch(() => {});
  }
}

async function* posted<T extends { error?: string }>(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<T> {
  const response = await call(path, { method: "POST", body: JSON.stringify(body), signal });
  for await (const line of lines<T>(response)) {
    if (line.error) throw new ApiError(response.status, line.error);
    yield line;
  }
}

const json = async <T>(path: string, init?: RequestInit) => (await (await call(path, init)).json()) as T;
const post = (body: unknown): RequestInit => ({ method: "POST", body: JSON.stringify(body) });

export const api = {
  chat: (request: ChatRequest, signal: AbortSignal) => posted<ChatChunk>("/api/chat", { ...request, stream: true }, signal),
  pull: (model: string, signal: AbortSignal) => posted<PullProgress>("/api/pull", { model, stream: true }, signal),
  tags: async () => (await json<{ models?: ModelEntry[] }>("/api/tags")).models ?? [],
  ps: async () => (await json<{ models?: LoadedModel[] }>("/api/ps")).models ?? [],
  show: (model: string) => json<ShowReply>("/api/show", post({ model })),
  remove: (model: string) => call("/api/delete", { method: "DELETE", body: JSON.stringify({ model }) }),
  unload: (model: string) => call("/api/generate", post({ model, keep_alive: 0, stream: false })),
  /** Ours; `version` alone is the one of Ollama whose interface is spoken. */
  version: async () => {
    const reply = await json<{ version: string; whit?: string }>("/api/version");
    return reply.whit ?? reply.version;
  },
  conversations: async (query = "", signal?: AbortSignal) =>
    (await json<{ conversations: Summary[] }>(`/api/conversations${query && `?q=${encodeURIComponent(query)}`}`, signal && { signal })).conversations,
  /** A conversation as the server has it, unchecked, and its revision. */
  conversation: async (id: string) => {
    const response = await call(`/api/conversations/${id}`);
    return { body: (await response.json()) as unknown, revision: Number(response.headers.get("etag")?.replaceAll('"', "")) };
  },
  /** The new revision; an `ApiError` with status 412 when `revision` (null: none) is not the one that is there. */
  keep: async (id: string, body: string, revision: number | null, keepalive = false) => {
    const headers = { [revision === null ? "if-none-match" : "if-match"]: revision === null ? "*" : `"${revision}"` };
    return (await json<{ revision: number }>(`/api/conversations/${id}`, { method: "PUT", body, headers, keepalive })).revision;
  },
  forget: (id: string) => call(`/api/conversations/${id}`, { method: "DELETE" }),
  exported: async () => await (await call("/api/conversations/export")).blob(),
  imported: (body: string) => json<{ imported: number; unchanged: number }>("/api/conversations/import", { method: "POST", body }),
  metrics: async () => await (await call("/metrics")).text(),
  /** The status code of a health endpoint; 0 when nobody answers. */
  probe: (path: "/healthz" | "/readyz") =>
    fetch(path).then(
      (response) => response.status,
      () => 0,
    ),
};
