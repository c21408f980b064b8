import { defineConfig } from 'vite';

// `npm run dev` shows the page against a running node: WEIR_NODE=http://127.0.0.1:8081.
const node = process.env.WEIR_NODE ?? 'http://127.0.0.1:8081';

export default defineConfig({
  build: { target: 'es2020', chunkSizeWarningLimit: 900 },
  server: {
    proxy: { '/api': node, '/hls': node, '/chat': { target: node, ws: true } },
  },
});
