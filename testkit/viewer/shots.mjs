// Draws each dashboard in Chromium, light and dark, over the data of a running Prometheus, and takes a picture:
//
//   node shots.mjs http://127.0.0.1:9090 FOLDER
//
// Ends with 1 where a variable has no value, a query fails, a panel is empty that should not be (lib/demo.mjs), a unit or a
// property is not known to Grafana's libraries, or the page throws.
import { createServer } from 'node:http';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

import { choices, emptiness } from './lib/demo.mjs';

const [url, out] = process.argv.slice(2);
if (!url || !out) {
  console.error('usage: node shots.mjs PROMETHEUS FOLDER');
  process.exit(2);
}
const library = fileURLToPath(new URL('node_modules/@grafana/ui/dist/public/img/icons', import.meta.url));
const root = fileURLToPath(new URL('../..', import.meta.url));
const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.svg': 'image/svg+xml' };

/** The page, the dashboards as they are now, and what Prometheus says. */
const server = createServer(async (request, response) => {
  try {
    const { pathname } = new URL(request.url, 'http://viewer');
    if (pathname.startsWith('/api/')) {
      const body = [];
      for await (const part of request) body.push(part);
      const answer = await fetch(url + request.url, {
        method: request.method,
        ...(request.method === 'POST' && { body: Buffer.concat(body), headers: { 'content-type': request.headers['content-type'] } }),
      });
      response.writeHead(answer.status, { 'content-type': 'application/json' });
      response.end(Buffer.from(await answer.arrayBuffer()));
      return;
    }
    const path = normalize(pathname === '/' ? '/index.html' : pathname);
    const icons = '/public/build/img/icons/';
    const file = path.startsWith('/dashboards/') ? join(root, path)
      : path.startsWith(icons) ? join(library, path.slice(icons.length))
      : join(root, 'target/viewer', path);
    const content = readFileSync(file);
    response.writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream' });
    response.end(content);
  } catch (error) {
    response.writeHead(error.code === 'ENOENT' ? 404 : 502);
    response.end(String(error.message));
  }
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const page = `http://127.0.0.1:${server.address().port}`;

mkdirSync(out, { recursive: true });
const profile = mkdtempSync(join(tmpdir(), 'viewer-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  viewport: { width: 1440, height: 900 },
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const findings = [];
try {
  for (const name of readdirSync(join(root, 'dashboards')).filter((file) => file.endsWith('.json')).map((file) => file.slice(0, -5))) {
    for (const theme of ['dark', 'light']) {
      const where = `${name}, ${theme}`;
      const tab = await browser.newPage();
      tab.on('pageerror', (error) => findings.push(`${where}: ${error.message}`));
      const query = new URLSearchParams({ dashboard: name, theme });
      for (const [variable, value] of Object.entries(choices[name] ?? {})) query.set(variable === 'from' ? 'from' : `var-${variable}`, value);
      await tab.goto(`${page}/?${query}`);
      try {
        await tab.waitForFunction(() => window.outcome !== undefined, undefined, { timeout: 60_000 });
      } catch {
        findings.push(`${where}: was not drawn within a minute`);
        await tab.close();
        continue;
      }
      const { problems, panels, height } = await tab.evaluate(() => window.outcome);
      await tab.setViewportSize({ width: 1440, height: Math.ceil(height) });
      await tab.waitForTimeout(700);
      await tab.screenshot({ path: join(out, `${name}-${theme}.png`) });
      problems.forEach((problem) => findings.push(`${where}: ${problem}`));
      for (const panel of panels) {
        panel.problems.forEach((problem) => findings.push(`${where}, ${panel.title}: ${problem}`));
        const empty = panel.empty && panel.problems.length === 0 && emptiness(name, panel.title, panel.json);
        if (empty) findings.push(`${where}, ${panel.title}: ${empty}`);
      }
      console.log(`${where}: ${panels.length} panels, ${panels.filter((panel) => !panel.empty).length} with data`);
      await tab.close();
    }
  }
} finally {
  await browser.close();
  server.close();
  rmSync(profile, { recursive: true, force: true });
}
for (const finding of findings) console.error(finding);
console.log(findings.length ? `${findings.length} findings` : `all drawn, pictures in ${out}`);
process.exit(findings.length ? 1 : 0);
