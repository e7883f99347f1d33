// Writes the dashboards as Grafana reads them: node dashboards/generate.mjs. With --check it only says whether they are as
// written here.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';

const folder = new URL('.', import.meta.url);
const check = process.argv.includes('--check');
let stale = 0;
for (const source of readdirSync(new URL('src/', folder)).filter((name) => name !== 'style.mjs').sort()) {
  const { default: dashboard } = await import(new URL(`src/${source}`, folder));
  const file = new URL(source.replace('.mjs', '.json'), folder);
  const text = `${JSON.stringify(dashboard, null, 2)}\n`;
  if (!check) {
    writeFileSync(file, text);
    continue;
  }
  let there = '';
  try {
    there = readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  if (there !== text) {
    console.error(`dashboards/${source.replace('.mjs', '.json')} is not what dashboards/src/${source} makes; run node dashboards/generate.mjs`);
    stale += 1;
  }
}
process.exit(stale ? 1 : 0);
