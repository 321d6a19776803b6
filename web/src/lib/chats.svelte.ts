// The conversations of the page, and their copies on the server: what is open, what is not kept yet, what other pages changed.

import { SvelteSet } from "svelte/reactivity";

import { api, ApiError, words, type Summary } from "./api";
import { append, newConversation, received, show, title, type Attachment, type Conversation, type Message } from "./conversation";
import { batches, conversationsOf } from "./exports";
import { absorb, baseOf, type Base } from "./merge";
import { router } from "./router.svelte";
import { settings } from "./settings.svelte";
import { takeOver } from "./takeover";

/** A message that is being written has been saved more recently than this, or nobody writes it any more. */
const ABANDONED_MS = 6000;
const RETRY_MS = 3000;
/** How often a save is tried against pages that are quicker. */
const MAX_CONFLICTS = 8;
/** Browsers send no more than this of a page that goes away. */
const LAST_WORDS = 60_000;

/** What is known of a conversation's copy on the server. */
interface Kept {
  /** Null before it is there. */
  revision: number | null;
  base: Base;
  /** Changed since it was sent. */
  dirty: boolean;
  saving?: Promise<void>;
}

class Chats {
  /** All there are, the last changed first. */
  list = $state<Summary[]>([]);
  /** Counts the changes of the list. */
  changes = $state(0);
  ready = $state(false);
  /** Why the list could not be had. */
  problem = $state("");
  /** Why something said here is not on the server yet. */
  unsaved = $state("");
  /** The conversation that is not kept yet, because nothing was said in it. */
  draft = $state<Conversation>(newConversation(settings.model, settings.defaults));
  /** A short notice for sighted and other users alike. */
  notice = $state("");
  /** What undoes what the notice says. */
  undo = $state.raw<() => void>();
  /** Conversations whose answers this page is writing. */
  readonly writing = new SvelteSet<string>();
  #open = $state<Record<string, Conversation>>({});
  #missing = new SvelteSet<string>();
  #kept = new Map<string, Kept>();
  #others = new BroadcastChannel("whit");
  #timer = 0;
  #retry = 0;

  async open() {
    this.#others.onmessage = () => this.#soon(150);
    addEventListener("focus", () => this.#soon(0));
    addEventListener("online", () => this.#soon(0));
    addEventListener("pagehide", () => this.#lastWords());
    try {
      const taken = await takeOver();
      if (taken) this.say(`${taken === 1 ? "One conversation" : `${taken} conversations`} of this browser moved to the server.`);
    } catch (error) {
      this.say(`The conversations of this browser could not be moved: ${words(error)}`);
    }
    await this.refresh();
  }

  say(notice: string, undo?: () => void) {
    this.notice = notice;
    this.undo = undo;
  }

  /** The conversation, if it is here; `load` brings it. */
  find(id: string | null): Conversation | undefined {
    return id === null ? this.draft : this.#open[id];
  }

  isMissing(id: string): boolean {
    return this.#missing.has(id);
  }

  async load(id: string): Promise<Conversation | undefined> {
    if (this.#open[id]) return this.#open[id];
    try {
      const { body, revision } = await api.conversation(id);
      const conversation = received(body);
      if (!this.#open[id]) {
        this.#kept.set(id, { revision, base: baseOf(conversation), dirty: false });
        this.#open[id] = conversation;
        this.#settle(this.#open[id]!);
      }
      this.#missing.delete(id);
      return this.#open[id];
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) this.#missing.add(id);
      else this.problem = words(error);
      return undefined;
    }
  }

  /** Asks the server what there is, and what other pages did to what is open here. */
  async refresh() {
    try {
      const list = await api.conversations();
      const there = new Map(list.map((summary) => [summary.id, summary]));
      const mine = this.list.filter((summary) => !there.has(summary.id) && this.#isBusy(summary.id));
      this.list = [...list, ...mine].sort((a, b) => b.updated - a.updated);
      this.changes += 1;
      this.problem = "";
      for (const id of [...this.#missing]) if (there.has(id)) this.#missing.delete(id);
      for (const [id, kept] of this.#kept) {
        const summary = there.get(id);
        if (this.#isBusy(id) || kept.revision === null) continue;
        if (!summary) this.#drop(id);
        else if (summary.revision !== kept.revision || this.#isLive(id)) await this.#absorb(this.#open[id]!, kept);
      }
      for (const [id, kept] of this.#kept) if (kept.dirty && this.#open[id]) void this.save(this.#open[id]);
    } catch (error) {
      this.problem = words(error);
    }
    this.ready = true;
  }

  fresh() {
    this.draft = newConversation(settings.model, $state.snapshot(settings.defaults));
    router.go("/");
  }

  /** Puts it on the server; what another page changed meanwhile is taken in first. Never fails: it is tried again. */
  async save(conversation: Conversation) {
    const kept = this.#kept.get(conversation.id);
    if (!kept) return;
    kept.dirty = true;
    await (kept.saving ??= this.#write(conversation, kept).finally(() => delete kept.saving));
  }

  async remove(id: string) {
    const conversation = await this.load(id);
    if (!conversation) return;
    const copy = $state.snapshot(conversation);
    const kept = this.#kept.get(id)!;
    // A save would bring it back: from here on there is none, and the one under way is waited for.
    this.#kept.delete(id);
    kept.dirty = false;
    this.stop(id);
    await kept.saving;
    try {
      await api.forget(id);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) {
        this.#kept.set(id, kept);
        return this.say(words(error));
      }
    }
    this.#drop(id);
    this.list = this.list.filter((summary) => summary.id !== id);
    this.changes += 1;
    this.#tell();
    if (router.route.page === "chat" && router.route.id === id) this.fresh();
    this.say(`“${copy.title || "Untitled"}” is deleted.`, () => {
      this.say("");
      this.#adopt(copy);
      void this.save(this.#open[id]!);
      router.go(`/c/${id}`);
    });
  }

  async rename(id: string, name: string) {
    const conversation = await this.load(id);
    if (!conversation) return;
    conversation.title = title(name) || conversation.title;
    await this.save(conversation);
  }

  /** The number of conversations that brought something new. */
  async import(text: string): Promise<number> {
    let taken = 0;
    for (const batch of batches(conversationsOf(text))) taken += (await api.imported(batch)).imported;
    this.#tell();
    await this.refresh();
    return taken;
  }

  /** Puts what was said at the end of the branch; with `edited`, beside that message: a second branch. */
  add(conversation: Conversation, content: string, attachments: Attachment[], edited?: Message): Conversation {
    const parent = edited ? edited.parent : conversation.leaf;
    if (conversation.id === this.draft.id) {
      conversation.title = title(content) || attachments[0]?.name || "";
      conversation = this.#adopt($state.snapshot(conversation));
      this.draft = newConversation(conversation.model, settings.defaults);
      router.go(`/c/${conversation.id}`, true);
    }
    append(conversation, parent, { role: "user", content, ...(attachments.length ? { attachments } : {}) });
    return conversation;
  }

  showVersion(conversation: Conversation, message: Message) {
    show(conversation, message);
    void this.save(conversation);
  }

  /** Set by who writes the answers. */
  stop: (id: string) => void = () => {};

  /** Opens a conversation that the server does not have. */
  #adopt(conversation: Conversation): Conversation {
    const { id } = conversation;
    this.#kept.set(id, { revision: null, base: baseOf(conversation), dirty: false });
    this.#open[id] = conversation;
    this.#missing.delete(id);
    this.#note(conversation, 0);
    return this.#open[id]!;
  }

  async #write(conversation: Conversation, kept: Kept) {
    let conflicts = 0;
    while (kept.dirty) {
      kept.dirty = false;
      const sent = $state.snapshot(conversation);
      try {
        kept.revision = await api.keep(sent.id, JSON.stringify(sent), kept.revision);
        kept.base = baseOf(sent);
        this.#note(sent, kept.revision);
        this.#tell();
        this.unsaved = "";
      } catch (error) {
        kept.dirty = true;
        const conflict = error instanceof ApiError && error.status === 412 && (conflicts += 1) < MAX_CONFLICTS;
        const known = conflict && (await this.#absorb(conversation, kept));
        if (known) continue;
        this.unsaved = words(error);
        clearTimeout(this.#retry);
        this.#retry = window.setTimeout(() => this.refresh(), RETRY_MS);
        return;
      }
    }
  }

  /** Takes in what the server has. False when it could not be asked. */
  async #absorb(conversation: Conversation, kept: Kept): Promise<boolean> {
    try {
      const { body, revision } = await api.conversation(conversation.id);
      const theirs = received(body);
      const writing = this.writing.has(conversation.id) ? (conversation.leaf ?? undefined) : undefined;
      absorb(conversation, kept.base, theirs, writing);
      [kept.revision, kept.base] = [revision, baseOf(theirs)];
      this.#settle(conversation);
      return true;
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) return false;
      // Deleted elsewhere; what is said here brings it back.
      kept.revision = null;
      return true;
    }
  }

  /** Decides about messages that are being written by nobody here: by another page, or by one that is gone. */
  #settle(conversation: Conversation) {
    if (this.writing.has(conversation.id)) return;
    const live = Object.values(conversation.messages).filter((message) => message.live);
    if (!live.length) return;
    if (Date.now() - conversation.updated < ABANDONED_MS) this.#soon(ABANDONED_MS);
    else for (const message of live) Object.assign(message, { live: false, stopped: true });
  }

  #isLive(id: string): boolean {
    return Object.values(this.#open[id]?.messages ?? {}).some((message) => message.live);
  }

  /** Whether this page has something that the server has not. */
  #isBusy(id: string): boolean {
    const kept = this.#kept.get(id);
    return this.writing.has(id) || !!kept?.dirty || !!kept?.saving;
  }

  #drop(id: string) {
    this.#kept.delete(id);
    delete this.#open[id];
    this.#missing.add(id);
  }

  #note({ id, title, created, updated, model, messages }: Conversation, revision: number) {
    const summary = { id, title, created, updated, model, revision, n_messages: Object.keys(messages).length };
    this.list = [summary, ...this.list.filter((other) => other.id !== id)].sort((a, b) => b.updated - a.updated);
    this.changes += 1;
  }

  /** Other pages of this browser learn at once what others learn when they are looked at. */
  #tell() {
    this.#others.postMessage(null);
  }

  #soon(ms: number) {
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.refresh(), ms);
  }

  /** What was said when the page went away is sent behind it. */
  #lastWords() {
    for (const id of this.writing) {
      const [conversation, kept] = [this.#open[id], this.#kept.get(id)];
      if (!conversation || !kept) continue;
      const copy = $state.snapshot(conversation);
      for (const message of Object.values(copy.messages)) if (message.live) Object.assign(message, { live: false, stopped: true });
      const body = JSON.stringify(copy);
      if (body.length < LAST_WORDS) api.keep(id, body, kept.revision, true).catch(() => {});
    }
  }
}

export const chats = new Chats();
