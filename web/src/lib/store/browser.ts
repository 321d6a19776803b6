// Conversations in IndexedDB, and in memory where the browser refuses.

import type { Conversation } from "../conversation";
import type { ConversationStore } from "./index";

const TABLE = "conversations";

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the browser's database failed"));
  });
}

export class IndexedDbStore implements ConversationStore {
  readonly lasting = true;
  private constructor(private db: IDBDatabase) {}

  static async open(name: string): Promise<IndexedDbStore> {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    return new IndexedDbStore(await settled(request));
  }

  private table(mode: IDBTransactionMode) {
    return this.db.transaction(TABLE, mode).objectStore(TABLE);
  }

  list = () => settled(this.table("readonly").getAll() as IDBRequest<Conversation[]>);

  async put(conversation: Conversation) {
    await settled(this.table("readwrite").put(conversation));
  }

  async remove(id: string) {
    await settled(this.table("readwrite").delete(id));
  }
}

export class MemoryStore implements ConversationStore {
  readonly lasting = false;
  #all = new Map<string, Conversation>();

  async list() {
    return [...this.#all.values()];
  }

  async put(conversation: Conversation) {
    this.#all.set(conversation.id, conversation);
  }

  async remove(id: string) {
    this.#all.delete(id);
  }
}
