import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ask, builtIns, interpolate, interval, moment, resolve, seriesName } from './dashboard.mjs';
import { emptiness } from './demo.mjs';

const hour = { from: 0, to: 3600e3 };
const query = (name, definition, more = {}) => ({ name, type: 'query', query: { query: definition }, sort: 1, current: {}, ...more });
const dashboard = (...list) => ({ templating: { list: [{ name: 'datasource', type: 'datasource' }, ...list] } });
/** Answers with the labels that a test gives, and notes what it was asked. */
const answering = (values, asked = []) => ({
  labelValues: async (label, match) => (asked.push(`${label} of ${match}`), values),
  query: async (expr, time) => (asked.push(`${expr} at ${time}`), values),
  queryRange: async (expr) => (asked.push(expr), values),
});

test('times are relative to now, and reach into the future', () => {
  assert.equal(moment('now', 1000), 1000);
  assert.equal(moment('now-5m', 600e3), 300e3);
  assert.equal(moment('now+15m', 0), 900e3);
  assert.throws(() => moment('now/d', 0), /no time/);
});

test('a value stands in PromQL as Grafana writes it', () => {
  assert.equal(interpolate('a="$x",b="${x}"', { x: 'q"' }), 'a="q\\"",b="q\\""');
  assert.equal(interpolate('(${x:raw}) > 0', { x: 'up{job="a"}' }), '(up{job="a"}) > 0');
  assert.equal(interpolate('a=~"$x"', { x: ['a.b', 'c'] }), 'a=~"(a\\\\.b|c)"');
  assert.equal(interpolate('a=~"$x"', { x: { literal: '.*' } }), 'a=~".*"');
  assert.equal(interpolate('label_replace(up, "a", "$1", "b", "(.*)")', {}), 'label_replace(up, "a", "$1", "b", "(.*)")');
  assert.throws(() => interpolate('$gone', {}), /not defined/);
});

test('the step follows range and width, and a rate has four scrapes', () => {
  assert.equal(interval(hour, 800), 15e3);
  assert.equal(interval(hour, 90), 60e3);
  assert.deepEqual(Object.entries(builtIns(hour, 15e3)).slice(0, 4).map(([, value]) => value), ['15s', '15000', '1m', '1h']);
});

test('later variables use earlier ones, and one without values is an error', async () => {
  const asked = [];
  const list = [query('forecast', 'label_values(made, forecast)'), query('horizon', 'label_values(of{forecast="$forecast"}, horizon)', { sort: 3 })];
  const values = await resolve(dashboard(...list), answering(['b15', 'a5'], asked), hour);
  assert.deepEqual([values.forecast, values.horizon], ['a5', 'a5']);
  assert.deepEqual(asked, ['forecast of made', 'horizon of of{forecast="a5"}']);
  await assert.rejects(resolve(dashboard(list[0]), answering([]), hour), /variable forecast: .* has no values/);
  await assert.rejects(resolve(dashboard(list[0]), answering(['a']), hour, { forecast: 'b' }), /has no b, only a/);
});

test('the series of a query are cut out of its result at the end of the range', async () => {
  const asked = [];
  const variable = query('series', 'query_result(made)', { regex: '/\\{(.+?)\\}/' });
  const found = [{ metric: { __name__: 'made', forecast: 'x', job: 'n' }, value: [1, '2'] }];
  const values = await resolve(dashboard(variable), answering(found, asked), hour);
  assert.equal(values.series, 'forecast="x",job="n"');
  assert.deepEqual(asked, ['made at 3600000']);
});

test('a panel with a range of its own asks at its end, and a failure names the query', async () => {
  const asked = [];
  const panel = { timeFrom: '5m', targets: [{ refId: 'A', expr: 'up{x="$x"}', instant: true }] };
  await ask(panel, answering([], asked), { x: 'y' }, hour, 1000, 100);
  assert.deepEqual(asked, ['up{x="y"} at 1000']);
  const failing = { query: async () => Promise.reject(new Error('bad')) };
  await assert.rejects(ask(panel, failing, { x: 'y' }, hour, 1000, 100), /query A \(up\{x="y"\}\): bad/);
});

test('a series is named by its legend', () => {
  assert.equal(seriesName('{{rule}}: {{reason}}', { rule: 'a' }, ''), 'a:');
  assert.equal(seriesName('__auto', { __name__: 'up', job: 'n' }, ''), 'up{job="n"}');
});

test('only panels that are listed may be empty, and they say what that means', () => {
  const told = { fieldConfig: { defaults: { noValue: 'x' } } };
  assert.equal(emptiness('scaling', 'Faults', told), undefined);
  assert.match(emptiness('scaling', 'Faults', { fieldConfig: { defaults: {} } }), /noValue/);
  assert.equal(emptiness('scaling', 'Has', told), 'No data');
});
