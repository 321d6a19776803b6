// What the user chose once for all conversations. Kept in localStorage, because it must be there before the first paint.

export type Theme = "system" | "light" | "dark";

/** Sampling and prompt of one conversation. An empty field means: the model's or the server's default. */
export interface Sampling {
  system: string;
  temperature: number | null;
  top_p: number | null;
  top_k: number | null;
  min_p: number | null;
  repeat_penalty: number | null;
  num_predict: number | null;
  num_ctx: number | null;
  seed: number | null;
  /** One stop text per line. */
  stop: string;
  format: "text" | "json" | "schema";
  schema: string;
  /** The functions that the model may call: a JSON array in the shape of OpenAI's `tools`. */
  tools: string;
}

export const noSampling = (): Sampling => ({
  system: "",
  temperature: null,
  top_p: null,
  top_k: null,
  min_p: null,
  repeat_penalty: null,
  num_predict: null,
  num_ctx: null,
  seed: null,
  stop: "",
  format: "text",
  schema: "",
  tools: "",
});

const KEY = "whit.settings";

class Settings {
  theme = $state<Theme>("system");
  model = $state("");
  apiKey = $state("");
  sidebar = $state(true);
  defaults = $state<Sampling>(noSampling());

  constructor() {
    try {
      const saved = JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Settings>;
      if (saved.theme === "light" || saved.theme === "dark") this.theme = saved.theme;
      if (typeof saved.model === "string") this.model = saved.model;
      if (typeof saved.apiKey === "string") this.apiKey = saved.apiKey;
      if (typeof saved.sidebar === "boolean") this.sidebar = saved.sidebar;
      if (saved.defaults) this.defaults = { ...noSampling(), ...saved.defaults };
    } catch {
      // Broken or forbidden storage: the defaults serve.
    }
  }

  save() {
    const { theme, model, apiKey, sidebar } = this;
    try {
      localStorage.setItem(KEY, JSON.stringify({ theme, model, apiKey, sidebar, defaults: $state.snapshot(this.defaults) }));
    } catch {
      // Nothing to do: the choice then lasts as long as the page.
    }
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }
}

export const settings = new Settings();
