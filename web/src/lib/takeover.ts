// Conversations were once kept in the browser's own database. What is found there moves to the server, once.

import { api } from "./api";
import { batches } from "./exports";

const NAME = "whit";

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the browser's database failed"));
  });
}

/** How many conversations came to the server. */
export async function takeOver(): Promise<number> {
  let database: IDBDatabase;
  try {
    const request = indexedDB.open(NAME, 1);
    // There was none, so none is made.
    request.onupgradeneeded = () => request.transaction?.abort();
    database = await settled(request);
  } catch {
    return 0;
  }
  const found = (await settled(database.transaction("conversations").objectStore("conversations").getAll())) as unknown[];
  for (const batch of batches(found)) await api.imported(batch);
  database.close();
  await settled(indexedDB.deleteDatabase(NAME));
  return found.length;
}
