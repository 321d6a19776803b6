// Answers: asked for, streamed into their messages, stopped.

import { api, isAbort, words } from "./api";
import { chats } from "./chats.svelte";
import { append, branch, format, options, toRequest, tools, type Attachment, type Conversation, type Message } from "./conversation";
import { models } from "./models.svelte";

/** A page that dies in mid-answer loses at most this much of it. */
const SAVE_EVERY_MS = 1500;
/** A page that lost a connection is left by then, or stays. */
const LEAVING_MS = 1000;

const running = new Map<string, AbortController>();

/** Says something new, or, with `edited`, says it otherwise: a second branch beside the first. */
export async function send(conversation: Conversation, content: string, attachments: Attachment[], edited?: Message) {
  await answer(chats.add(conversation, content, attachments, edited));
}

/** Another answer beside the given one. */
export async function regenerate(conversation: Conversation, message: Message) {
  conversation.leaf = message.parent;
  await answer(conversation);
}

/** Hands the results of the functions that an answer called to the model. */
export async function giveResults(conversation: Conversation, message: Message, results: { tool: string; content: string }[]) {
  conversation.leaf = message.id;
  for (const { tool, content } of results) append(conversation, conversation.leaf, { role: "tool", tool, content });
  await answer(conversation);
}

export function stop(id: string) {
  running.get(id)?.abort();
}
chats.stop = stop;

async function answer(conversation: Conversation) {
  const { id } = conversation;
  running.get(id)?.abort();
  const history = branch(conversation);
  const message = append(conversation, conversation.leaf, { role: "assistant", content: "", model: conversation.model, live: true });
  const controller = new AbortController();
  running.set(id, controller);
  chats.writing.add(id);
  void chats.save(conversation);

  // Text is gathered and shown once a frame: a fast model sends more often than a screen can draw.
  let text = "";
  let thinking = "";
  let frame = 0;
  let saved = Date.now();
  const paint = () => {
    frame = 0;
    message.content = text;
    if (thinking) message.thinking = thinking;
    if (Date.now() - saved > SAVE_EVERY_MS) {
      saved = conversation.updated = Date.now();
      void chats.save(conversation);
    }
  };
  // A hidden tab draws no frames, but must go on.
  const later = () => (frame ||= document.hidden ? window.setTimeout(paint, 250) : requestAnimationFrame(paint));
  const began = performance.now();
  let first = 0;
  let count = 0;
  try {
    const wanted = format(conversation.sampling);
    const known = tools(conversation.sampling);
    if (wanted.error ?? known.error) throw new Error(wanted.error ?? known.error);
    if (!conversation.model) throw new Error("Choose a model first, or pull one under Models.");
    const request = {
      model: conversation.model,
      messages: toRequest(conversation, history),
      options: options(conversation.sampling),
      ...(wanted.value === undefined ? {} : { format: wanted.value }),
      ...(known.value === undefined ? {} : { tools: known.value }),
    };
    let finished = false;
    for await (const chunk of api.chat(request, controller.signal)) {
      const piece = chunk.message?.content ?? "";
      const thought = chunk.message?.thinking ?? "";
      const calls = chunk.message?.tool_calls ?? [];
      if (piece || thought || calls.length) {
        first ||= performance.now();
        count += 1;
        text += piece;
        thinking += thought;
        if (calls.length) message.calls = [...(message.calls ?? []), ...calls.map((call) => ({ name: call.function.name, arguments: call.function.arguments }))];
        later();
      }
      if (chunk.done) {
        finished = true;
        const tokens = chunk.eval_count ?? count;
        const seconds = chunk.eval_duration ? chunk.eval_duration / 1e9 : (performance.now() - first) / 1000;
        message.stats = {
          promptTokens: chunk.prompt_eval_count ?? 0,
          tokens,
          rate: seconds > 0 ? tokens / seconds : 0,
          first: ((first || performance.now()) - began) / 1000,
          reason: chunk.done_reason ?? "stop",
        };
      }
    }
    if (!finished) throw new Error("The connection broke off in the middle of the answer.");
  } catch (error) {
    // A page that is left loses its connections first. It is gone before this has waited, and its last words tell of an
    // answer that was stopped.
    if (count > 0 && !isAbort(error)) await new Promise((resolve) => setTimeout(resolve, LEAVING_MS));
    if (isAbort(error) || controller.signal.aborted) message.stopped = true;
    else message.error = words(error);
    // One token has no rate.
    if (count > 1 && !message.stats) {
      const seconds = (performance.now() - first) / 1000;
      message.stats = { promptTokens: 0, tokens: count, rate: seconds > 0 ? count / seconds : 0, first: (first - began) / 1000, reason: "stopped" };
    }
  } finally {
    if (frame) {
      cancelAnimationFrame(frame);
      clearTimeout(frame);
    }
    paint();
    message.live = false;
    if (running.get(id) === controller) {
      running.delete(id);
      chats.writing.delete(id);
    }
    conversation.updated = Date.now();
    await chats.save(conversation);
    void models.refresh();
  }
}
