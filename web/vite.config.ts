import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  build: {
    // Everything is a file of its own: the gateway's policy lets nothing inline run.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      "^/(inglenook\\.|development/|configuration\\.json)": "http://localhost:8080",
    },
  },
});
