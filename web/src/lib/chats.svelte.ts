// The conversations on the page and the answers being written into them.

import { api, isAbort, words } from "./api";
import { append, branch, format, newConversation, options, show, title, toRequest, type Attachment, type Conversation, type Message } from "./conversation";
import { models } from "./models.svelte";
import { router } from "./router.svelte";
import { settings } from "./settings.svelte";
import { exported, imported, openStore, type ConversationStore } from "./store";

/** A reload in mid-answer loses at most this much of it. */
const SAVE_EVERY_MS = 1000;

class Chats {
  all = $state<Conversation[]>([]);
  ready = $state(false);
  lasting = $state(true);
  /** The conversation that is not kept yet, because nothing was said in it. */
  draft = $state<Conversation>(newConversation(settings.model, settings.defaults));
  /** A short notice for sighted and other users alike. */
  notice = $state("");
  #running = new Map<string, AbortController>();
  #store?: ConversationStore;

  async open() {
    this.#store = await openStore();
    this.lasting = this.#store.lasting;
    const found = await this.#store.list();
    for (const conversation of found) {
      for (const message of Object.values(conversation.messages)) {
        if (message.live) Object.assign(message, { live: false, stopped: true });
      }
    }
    this.all = found.sort((a, b) => b.updated - a.updated);
    this.ready = true;
  }

  find(id: string | null): Conversation | undefined {
    return id === null ? this.draft : this.all.find((conversation) => conversation.id === id);
  }

  fresh() {
    this.draft = newConversation(settings.model, $state.snapshot(settings.defaults));
    router.go("/");
  }

  async save(conversation: Conversation) {
    if (!this.all.some((other) => other.id === conversation.id)) return;
    try {
      await this.#store?.put($state.snapshot(conversation));
    } catch (error) {
      this.notice = `This conversation could not be kept: ${words(error)}`;
    }
  }

  async remove(id: string) {
    this.#running.get(id)?.abort();
    this.all = this.all.filter((conversation) => conversation.id !== id);
    if (router.route.page === "chat" && router.route.id === id) this.fresh();
    await this.#store?.remove(id);
  }

  async rename(conversation: Conversation, name: string) {
    conversation.title = title(name) || conversation.title;
    await this.save(conversation);
  }

  export(): string {
    return exported($state.snapshot(this.all));
  }

  /** The number of conversations taken in. One that is here already is replaced by a newer one, never by an older one. */
  async import(text: string): Promise<number> {
    let taken = 0;
    for (const conversation of imported(text)) {
      const have = this.all.find((other) => other.id === conversation.id);
      if (have && have.updated >= conversation.updated) continue;
      this.all = [...this.all.filter((other) => other.id !== conversation.id), conversation];
      await this.#store?.put(conversation);
      taken += 1;
    }
    this.all.sort((a, b) => b.updated - a.updated);
    return taken;
  }

  /** Says something new, or, with `edited`, says it otherwise: a second branch beside the first. */
  async send(conversation: Conversation, content: string, attachments: Attachment[], edited?: Message) {
    const parent = edited ? edited.parent : conversation.leaf;
    const message = { role: "user" as const, content, ...(attachments.length ? { attachments } : {}) };
    if (conversation.id === this.draft.id) {
      conversation.title = title(content) || attachments[0]?.name || "";
      this.all = [conversation, ...this.all];
      conversation = this.all[0]!;
      this.draft = newConversation(conversation.model, settings.defaults);
      router.go(`/c/${conversation.id}`, true);
    }
    append(conversation, parent, message);
    await this.answer(conversation);
  }

  /** Another answer beside the given one. */
  async regenerate(conversation: Conversation, message: Message) {
    conversation.leaf = message.parent;
    await this.answer(conversation);
  }

  showVersion(conversation: Conversation, message: Message) {
    show(conversation, message);
    void this.save(conversation);
  }

  running(conversation: Conversation): boolean {
    const leaf = conversation.leaf && conversation.messages[conversation.leaf];
    return !!leaf && !!leaf.live;
  }

  stop(conversation: Conversation) {
    this.#running.get(conversation.id)?.abort();
  }

  private async answer(conversation: Conversation) {
    this.#running.get(conversation.id)?.abort();
    const history = branch(conversation);
    const wanted = format(conversation.sampling);
    const answer = append(conversation, conversation.leaf, { role: "assistant", content: "", model: conversation.model, live: true });
    const stop = new AbortController();
    this.#running.set(conversation.id, stop);
    this.all.sort((a, b) => b.updated - a.updated);
    void this.save(conversation);

    // Text is gathered and shown once a frame: a fast model sends more often than a screen can draw.
    let text = "";
    let thinking = "";
    let frame = 0;
    let saved = Date.now();
    const paint = () => {
      frame = 0;
      answer.content = text;
      if (thinking) answer.thinking = thinking;
      if (Date.now() - saved > SAVE_EVERY_MS) {
        saved = Date.now();
        void this.save(conversation);
      }
    };
    // A hidden tab draws no frames, but must go on.
    const later = () => (frame ||= document.hidden ? window.setTimeout(paint, 250) : requestAnimationFrame(paint));
    const began = performance.now();
    let first = 0;
    let count = 0;
    try {
      if (wanted.error) throw new Error(wanted.error);
      if (!conversation.model) throw new Error("Choose a model first, or pull one under Models.");
      const request = {
        model: conversation.model,
        messages: toRequest(conversation, history),
        options: options(conversation.sampling),
        ...(wanted.value === undefined ? {} : { format: wanted.value }),
      };
      let finished = false;
      for await (const chunk of api.chat(request, stop.signal)) {
        const piece = chunk.message?.content ?? "";
        const thought = chunk.message?.thinking ?? "";
        if (piece || thought) {
          first ||= performance.now();
          count += 1;
          text += piece;
          thinking += thought;
          later();
        }
        if (chunk.done) {
          finished = true;
          const tokens = chunk.eval_count ?? count;
          const seconds = chunk.eval_duration ? chunk.eval_duration / 1e9 : (performance.now() - first) / 1000;
          answer.stats = {
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
      if (isAbort(error)) answer.stopped = true;
      else answer.error = words(error);
      if (first && !answer.stats) {
        const seconds = (performance.now() - first) / 1000;
        answer.stats = { promptTokens: 0, tokens: count, rate: seconds > 0 ? count / seconds : 0, first: (first - began) / 1000, reason: "stopped" };
      }
    } finally {
      if (frame) {
        cancelAnimationFrame(frame);
        clearTimeout(frame);
      }
      paint();
      answer.live = false;
      if (this.#running.get(conversation.id) === stop) this.#running.delete(conversation.id);
      conversation.updated = Date.now();
      await this.save(conversation);
      void models.refresh();
    }
  }
}

export const chats = new Chats();
