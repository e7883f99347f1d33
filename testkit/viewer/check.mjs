// Checks the dashboards without a browser, and needs no package of npm.
//
//   node check.mjs                        what can be said of the files alone; promtool parses each query
//   node check.mjs http://127.0.0.1:9090  also, over the demonstration: each variable has values, each query is answered, and
//                                         with data where lib/demo.mjs expects some
//
// Ends with 1 and all findings.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ask, builtIns, interpolate, namesIn, panelsOf, rangeOf, resolve } from './lib/dashboard.mjs';
import { choices, emptiness } from './lib/demo.mjs';
import { Prometheus } from './lib/prometheus.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path) => readFileSync(join(root, path), 'utf8');
const dashboards = readdirSync(join(root, 'dashboards')).filter((name) => name.endsWith('.json')).map((name) => [name, JSON.parse(read(`dashboards/${name}`))]);
const findings = [];
const find = (where, what) => findings.push(`${where}: ${what}`);

// --- The files ---------------------------------------------------------------------------------------------------------

/** Every name that the programs and the rules write. */
function knownNames() {
  const names = new Set();
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', 'common/src', 'predictor/src', 'scaler/src', 'exporter/src', 'rules/prometheus'], { cwd: root, encoding: 'utf8' });
  for (const file of files.trim().split('\n').filter((name) => /\.(rs|yml)$/.test(name))) {
    const text = read(file);
    for (const [, name] of text.matchAll(/"(cloudpulse_\w+)"|record: (\w+)/g)) if (name) names.add(name);
    for (const [, name] of text.matchAll(/write_build_info\(&mut page, "(\w+)"/g)) names.add(`cloudpulse_${name}_build_info`);
    if (file === 'predictor/src/metrics.rs') {
      for (const [, name] of text.matchAll(/"(\w+)"/g)) names.add(`cloudpulse_predictor_${name}`);
    }
  }
  return names;
}

function checkFiles() {
  const known = knownNames();
  const uids = new Map(dashboards.map(([, { uid, templating }]) => [uid, templating.list.map((variable) => variable.name)]));
  if (uids.size !== dashboards.length) find('dashboards', 'two have one uid');
  for (const [file, dashboard] of dashboards) {
    const { uid, title, tags, templating, links } = dashboard;
    if (!/^cloudpulse-\w+$/.test(uid)) find(file, `uid ${uid} is not one of ours`);
    if (!title || !dashboard.description) find(file, 'has no title or no description');
    if (!tags.includes('cloudpulse')) find(file, 'has no tag cloudpulse');
    if (dashboard.id !== undefined) find(file, 'has an id of one Grafana');
    const variables = templating.list.map((variable) => variable.name);
    if (variables[0] !== 'datasource' || templating.list[0].type !== 'datasource') find(file, 'its first variable is no data source');
    const used = new Set();
    const use = (where, text) => namesIn(text).forEach((name) => {
      used.add(name);
      if (!variables.includes(name) && !name.startsWith('__')) find(where, `variable $${name} is not defined`);
    });
    const reference = (where, source) => {
      if (source?.uid !== '${datasource}' || source.type !== 'prometheus') find(where, `data source ${JSON.stringify(source)} is not \${datasource}`);
    };
    const link = (where, url) => {
      const [, target, parameters] = /^\/d\/([\w-]+)\?(.*)$/.exec(url) ?? [];
      if (!uids.has(target)) return find(where, `link ${url} leads nowhere`);
      for (const [, name] of parameters.matchAll(/var-(\w+)=/g)) if (!uids.get(target).includes(name)) find(where, `link ${url}: ${target} has no variable ${name}`);
      if (!parameters.includes('${datasource:queryparam}')) find(where, `link ${url} forgets the data source`);
      return undefined;
    };
    const names = (where, expr) => {
      for (const [name] of expr.matchAll(/cloudpulse_[a-z_]+/g)) {
        if (!known.has(name) && !known.has(name.replace(/_(bucket|sum|count)$/, ''))) find(where, `nothing writes ${name}`);
      }
    };
    for (const variable of templating.list) {
      if (variable.type !== 'query') continue;
      reference(`${file}, variable ${variable.name}`, variable.datasource);
      use(`${file}, variable ${variable.name}`, variable.query.query);
      names(`${file}, variable ${variable.name}`, variable.query.query);
    }
    for (const one of links) link(file, one.url);
    for (const target of uids.keys()) if (target !== uid && !links.some((one) => one.url.startsWith(`/d/${target}?`))) find(file, `has no link to ${target}`);
    for (const annotation of dashboard.annotations.list) {
      reference(`${file}, ${annotation.name}`, annotation.datasource);
      use(`${file}, ${annotation.name}`, annotation.expr);
      names(`${file}, ${annotation.name}`, annotation.expr);
    }
    const ids = new Set();
    const taken = new Map();
    for (const panel of panelsOf(dashboard)) {
      const where = `${file}, ${panel.title}`;
      if (ids.has(panel.id)) find(where, `id ${panel.id} is another panel's`);
      ids.add(panel.id);
      const { x, y, w, h } = panel.gridPos;
      if (x < 0 || x + w > 24) find(where, 'does not fit into 24 columns');
      for (let column = x; column < x + w; column += 1) {
        for (let row = y; row < y + h; row += 1) {
          if (taken.has(`${column},${row}`)) find(where, `lies on ${taken.get(`${column},${row}`)}`);
          taken.set(`${column},${row}`, panel.title);
        }
      }
      if (!panel.title || !panel.description) find(where, 'has no title or no description');
      if (!panel.fieldConfig.defaults.unit) find(where, 'has no unit');
      reference(where, panel.datasource);
      use(where, panel.title);
      if (panel.targets.length === 0) find(where, 'asks nothing');
      const legends = panel.targets.map((target) => target.legendFormat);
      for (const target of panel.targets) {
        reference(where, target.datasource);
        use(where, target.expr);
        use(where, target.legendFormat ?? '');
        names(where, target.expr);
        // A range that ends in the future has no present values.
        if (target.instant && dashboard.time.to !== 'now' && panel.timeFrom === undefined) find(where, 'asks for one moment, which is in the future here');
      }
      for (const { matcher, properties } of panel.fieldConfig.overrides) {
        for (const { id, value } of properties) {
          if (id === 'links') value.forEach((one) => link(where, one.url));
          if (id === 'custom.fillBelowTo' && !legends.includes(value)) find(where, `fills down to ${value}, which is no series`);
        }
        const renamed = (panel.transformations ?? []).flatMap(({ options }) => Object.values(options.renameByName ?? {}));
        if (matcher.id === 'byName' && ![...legends, ...renamed].some((name) => new RegExp(`^${(name ?? '').replace(/[.*+?^()|[\]\\$]/g, '\\$&').replace(/\{\{.*?\}\}/g, '.*')}$`).test(matcher.options))
          && !legends.some((name) => name?.startsWith('{{'))) find(where, `an override is for ${matcher.options}, which is no series`);
      }
    }
    for (const name of variables.slice(1)) if (!used.has(name)) find(file, `variable ${name} is not used`);
  }
}

/** promtool's parser is Prometheus' own. It takes rules, so each query is one. Returns how many it parsed. */
function parse() {
  const placeholders = { series: 'forecast="x"', query: 'sum(up)', horizon: '5m', limit: '1' };
  const exprs = dashboards.flatMap(([file, dashboard]) => {
    const values = Object.fromEntries(dashboard.templating.list.map(({ name }) => [name, placeholders[name] ?? 'x']));
    Object.assign(values, builtIns({ from: 0, to: 3600e3 }, 15e3));
    return [
      ...panelsOf(dashboard).flatMap((panel) => panel.targets.map(({ expr }) => [`${file}, ${panel.title}`, expr])),
      ...dashboard.annotations.list.map(({ name, expr }) => [`${file}, ${name}`, expr]),
    ]
      .filter(([, expr]) => namesIn(expr).every((name) => name in values)) // the others were found above
      .map(([where, expr]) => [where, interpolate(expr, values)]);
  });
  const folder = mkdtempSync(join(tmpdir(), 'dashboards-'));
  const path = join(folder, 'rules.yml');
  /** What promtool has against these queries. */
  const objection = (queries) => {
    const rules = queries.map((expr, i) => ({ record: `query:${i}`, expr }));
    writeFileSync(path, JSON.stringify({ groups: [{ name: 'dashboards', rules }] }));
    try {
      execFileSync('promtool', ['check', 'rules', path], { stdio: 'pipe' });
      return undefined;
    } catch (error) {
      if (error.code === 'ENOENT') throw new Error('promtool is not there', { cause: error });
      return error.stderr.toString().trim().split('\n').at(-1).replace(/.*could not parse expression: /, '');
    }
  };
  try {
    if (objection(exprs.map(([, expr]) => expr))) {
      for (const [where, expr] of exprs) {
        const wrong = objection([expr]);
        if (wrong) find(where, `${expr} cannot be parsed: ${wrong}`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return exprs.length;
}

// --- A running Prometheus ----------------------------------------------------------------------------------------------

const isNumber = (text) => text !== undefined && !Number.isNaN(Number(text));

/** Returns how many panels have data, and which may be without and are. */
async function checkAnswers(url) {
  const prometheus = new Prometheus(url);
  let filled = 0;
  const silent = [];
  const now = Date.now();
  for (const [file, dashboard] of dashboards) {
    const name = file.replace('.json', '');
    const chosen = choices[name] ?? {};
    const range = rangeOf({ ...dashboard.time, ...(chosen.from && { from: chosen.from }) }, now);
    let values;
    try {
      // As somebody opens it first, then with what is chosen.
      await resolve(dashboard, prometheus, range);
      values = await resolve(dashboard, prometheus, range, chosen);
    } catch (error) {
      find(file, error.message);
      continue;
    }
    for (const panel of panelsOf(dashboard)) {
      const title = interpolate(panel.title, values);
      const where = `${file}, ${title}`;
      try {
        const answers = await ask(panel, prometheus, values, range, now, 800);
        const numbers = answers.flatMap(({ result }) => result.flatMap((series) => series.values.map(([, value]) => value))).filter(isNumber);
        const wrong = numbers.length > 0 ? undefined : emptiness(name, title, panel);
        if (numbers.length > 0) filled += 1;
        else if (wrong) find(where, wrong);
        else silent.push(where);
      } catch (error) {
        find(where, error.message);
      }
    }
    for (const annotation of dashboard.annotations.list) {
      await prometheus.queryRange(interpolate(annotation.expr, values), range, 60e3).catch((error) => find(`${file}, ${annotation.name}`, error.message));
    }
  }
  return { filled, silent };
}

checkFiles();
const parsed = parse();
console.log(`${dashboards.length} dashboards, ${parsed} queries through promtool`);
const url = process.argv[2];
if (url) {
  const { filled, silent } = await checkAnswers(url);
  console.log(`${filled} panels have data; ${silent.length} have none, as may be:`);
  silent.forEach((where) => console.log(`  ${where}`));
}
for (const finding of findings) console.error(finding);
if (findings.length > 0) console.error(`${findings.length} findings`);
process.exit(findings.length > 0 ? 1 : 0);
