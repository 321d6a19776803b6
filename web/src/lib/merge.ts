// Two copies of one conversation, changed apart: this page's, and the one that the server has from another page.
// Nothing that was said is lost: messages of both stay. Of title, model, settings and the branch shown there is only one;
// each is the server's unless it was changed here. The server does the same with imports (conversations/wire.rs).

import type { Conversation, Message } from "./conversation";

/** What there is one of, as it was when both copies were the same. */
export interface Base {
  title: string;
  model: string;
  leaf: string | null;
  /** As JSON. */
  sampling: string;
}

export function baseOf({ title, model, leaf, sampling }: Conversation): Base {
  return { title, model, leaf, sampling: JSON.stringify(sampling) };
}

/** Brings `theirs` into `mine`. The message `writing` is being written by this page and stays as it is. */
export function absorb(mine: Conversation, base: Base, theirs: Conversation, writing?: string) {
  for (const [id, message] of Object.entries(theirs.messages)) {
    const here = mine.messages[id];
    if (!here) mine.messages[id] = message;
    else if (id !== writing && later(message, here)) Object.assign(here, { live: false, stopped: false }, message);
  }
  if (mine.title === base.title) mine.title = theirs.title;
  if (mine.model === base.model) mine.model = theirs.model;
  if (mine.leaf === base.leaf && writing === undefined) mine.leaf = theirs.leaf;
  if (JSON.stringify(mine.sampling) === base.sampling) Object.assign(mine.sampling, theirs.sampling);
  mine.updated = Math.max(mine.updated, theirs.updated);
}

/** An answer only grows: the longer one is the later; of two alike, the one that is complete. */
function later(a: Message, b: Message): boolean {
  const length = ({ content, thinking = "" }: Message) => content.length + thinking.length;
  return length(a) !== length(b) ? length(a) > length(b) : !a.live && !!b.live;
}
