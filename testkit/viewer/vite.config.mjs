import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  define: { 'process.env': {}, global: 'globalThis' }, // Grafana's libraries expect both
  build: { minify: false, chunkSizeWarningLimit: 1e5, outDir: '../../target/viewer', emptyOutDir: true },
});
