import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// The page may load nothing but its own files (the server's Content-Security-Policy), so nothing is inlined as a data: URL
// and no module preload script is put into the HTML.
export default defineConfig({
  plugins: [svelte()],
  build: {
    target: ["chrome123", "firefox121", "safari17.5"],
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  server: {
    proxy: Object.fromEntries(
      ["/api", "/metrics", "/healthz", "/readyz"].map((path) => [path, process.env.WHIT_SERVER ?? "http://127.0.0.1:11434"]),
    ),
  },
  test: { include: ["tests/**/*.test.ts"] },
});
