// The models that the server has, which of them are loaded, and pulls under way.

import { api, isAbort, words, type LoadedModel, type ModelEntry } from "./api";
import { settings } from "./settings.svelte";

export interface Pull {
  model: string;
  status: string;
  completed: number;
  total: number;
  error: string;
  stop: AbortController;
}

class Models {
  list = $state<ModelEntry[]>([]);
  loaded = $state<LoadedModel[]>([]);
  pulls = $state<Pull[]>([]);
  error = $state("");
  ready = $state(false);

  async refresh() {
    try {
      [this.list, this.loaded] = await Promise.all([api.tags(), api.ps()]);
      this.error = "";
      if (!this.list.some((model) => model.name === settings.model)) {
        settings.model = this.loaded[0]?.name ?? this.list[0]?.name ?? "";
      }
    } catch (error) {
      this.error = words(error);
    }
    this.ready = true;
  }

  /** The number of tokens that a loaded model's context holds, if the server said so. */
  context(model: string): number | undefined {
    return this.loaded.find((entry) => entry.name === model)?.context_length;
  }

  /** True when the model is there afterwards. */
  async pull(model: string): Promise<boolean> {
    if (this.pulls.some((pull) => pull.model === model && !pull.error)) return false;
    this.pulls = this.pulls.filter((pull) => pull.model !== model);
    this.pulls.push({ model, status: "asking", completed: 0, total: 0, error: "", stop: new AbortController() });
    const pull = this.pulls.at(-1)!;
    const layers = new Map<string, { completed: number; total: number }>();
    try {
      let success = false;
      for await (const step of api.pull(model, pull.stop.signal)) {
        pull.status = step.status ?? pull.status;
        if (step.digest && step.total) layers.set(step.digest, { completed: step.completed ?? 0, total: step.total });
        pull.completed = [...layers.values()].reduce((sum, layer) => sum + layer.completed, 0);
        pull.total = [...layers.values()].reduce((sum, layer) => sum + layer.total, 0);
        success = step.status === "success";
      }
      if (!success) throw new Error("The download ended early. Pull again to go on where it stopped.");
      this.dismiss(model);
      await this.refresh();
      return true;
    } catch (error) {
      if (isAbort(error)) this.dismiss(model);
      else pull.error = words(error);
      return false;
    }
  }

  dismiss(model: string) {
    const pull = this.pulls.find((pull) => pull.model === model);
    pull?.stop.abort();
    this.pulls = this.pulls.filter((pull) => pull.model !== model);
  }
}

export const models = new Models();
