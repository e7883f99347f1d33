// What Grafana makes of a dashboard's JSON before it draws: time ranges, variables, queries. The same in Node and in a
// browser. Where Grafana leaves something unresolved in silence, this throws.

const UNITS = { s: 1e3, m: 60e3, h: 3600e3, d: 86400e3, w: 7 * 86400e3 };

/** Milliseconds of a duration such as 5m. */
export function duration(text) {
  const match = /^(\d+(?:\.\d+)?)([smhdw])$/.exec(text);
  if (!match) throw new Error(`"${text}" is no duration`);
  return Number(match[1]) * UNITS[match[2]];
}

/** Unix milliseconds of `now`, `now-3h`, `now+15m`, or a number. */
export function moment(text, now) {
  if (/^\d+$/.test(text)) return Number(text);
  const match = /^now(?:([+-])(\w+))?$/.exec(text);
  if (!match) throw new Error(`"${text}" is no time`);
  return now + (match[1] ? (match[1] === '-' ? -1 : 1) * duration(match[2]) : 0);
}

/** The range of a dashboard, or of a panel with one of its own. */
export function rangeOf(time, now) {
  return { from: moment(time.from, now), to: moment(time.to, now) };
}

export function panelRange(panel, range, now) {
  return panel.timeFrom ? { from: now - duration(panel.timeFrom), to: now } : range;
}

/** All panels, those in collapsed rows too. */
export function panelsOf(dashboard) {
  return dashboard.panels.flatMap((panel) => (panel.type === 'row' ? panel.panels ?? [] : [panel]));
}

/** Distance of samples in milliseconds, as Grafana chooses it for a panel of so many points. */
export function interval(range, points) {
  const least = (range.to - range.from) / points;
  const steps = [15e3, 20e3, 30e3, 60e3, 120e3, 300e3, 600e3, 900e3, 1200e3, 1800e3, 3600e3, 7200e3, 10800e3, 21600e3, 43200e3, 86400e3];
  return steps.find((step) => step >= least) ?? steps.at(-1);
}

const spoken = (milliseconds) => {
  const seconds = Math.max(1, Math.round(milliseconds / 1000));
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['m', 60]]) if (seconds % size === 0) return `${seconds / size}${unit}`;
  return `${seconds}s`;
};

/** Grafana's own variables for a query. */
export function builtIns(range, step) {
  const [from, to] = [range.from, range.to];
  return {
    __interval: spoken(step),
    __interval_ms: String(step),
    // Four scrapes of 15 s, Grafana's default.
    __rate_interval: spoken(Math.max(step + 15e3, 60e3)),
    __range: spoken(to - from),
    __range_s: String(Math.round((to - from) / 1000)),
    __range_ms: String(to - from),
    __from: String(from),
    __to: String(to),
  };
}

const escapeRegex = (text) => text.replace(/[\\^$*+?.()|[\]{}/]/g, '\\\\$&');
const escapeText = (text) => text.replace(/\\/g, '\\\\').replace(/"/g, '\\"');

/** A value as it stands in PromQL. */
function format(name, value, how) {
  const all = Array.isArray(value) ? value : undefined;
  switch (how) {
    case 'raw':
      return all ? all.join(',') : value;
    case 'regex':
      return all ? `(${all.map(escapeRegex).join('|')})` : escapeRegex(value);
    case 'pipe':
      return all ? all.join('|') : value;
    case 'queryparam':
      return (all ?? [value]).map((one) => `var-${name}=${encodeURIComponent(one)}`).join('&');
    case undefined:
      if (!all) return escapeText(value);
      return all.length === 1 ? escapeRegex(all[0]) : `(${all.map(escapeRegex).join('|')})`;
    default:
      throw new Error(`format "${how}" of variable ${name} is not known`);
  }
}

/**
 * Fills in $name, ${name} and ${name:format}. `values` has a text, an array, or {literal} for a regular expression that is
 * taken as it is.
 */
export function interpolate(text, values) {
  return text.replace(/\$([a-zA-Z_]\w*)|\$\{([a-zA-Z_]\w*)(?::(\w+))?\}/g, (whole, bare, braced, how) => {
    const name = bare ?? braced;
    if (!(name in values)) throw new Error(`variable $${name} is not defined (in: ${text})`);
    const value = values[name];
    return value?.literal !== undefined ? value.literal : format(name, value, how);
  });
}

/** Names of the variables in a text. */
export function namesIn(text) {
  return [...text.matchAll(/\$([a-zA-Z_]\w*)|\$\{([a-zA-Z_]\w*)(?::\w+)?\}/g)].map((match) => match[1] ?? match[2]);
}

function regexFilter(regex, values) {
  if (!regex) return values;
  const parts = /^\/(.*)\/([a-z]*)$/s.exec(regex);
  if (!parts) throw new Error(`"${regex}" is no /regular expression/`);
  const pattern = new RegExp(parts[1], parts[2]);
  return values.flatMap((value) => {
    const match = pattern.exec(value);
    return match ? [match[1] ?? value] : [];
  });
}

function sorted(sort, values) {
  const number = (text) => Number(/-?\d+(\.\d+)?/.exec(text)?.[0] ?? Infinity);
  switch (sort) {
    case 1:
      return values.sort((a, b) => (a < b ? -1 : 1));
    case 2:
      return values.sort((a, b) => (a > b ? -1 : 1));
    case 3:
      return values.sort((a, b) => number(a) - number(b));
    default:
      return values;
  }
}

async function valuesOf(definition, prometheus, range) {
  const labelValues = /^label_values\((?:(.+),\s*)?(\w+)\)$/s.exec(definition);
  if (labelValues) return prometheus.labelValues(labelValues[2], labelValues[1], range);
  const result = /^query_result\((.+)\)$/s.exec(definition);
  if (!result) throw new Error(`"${definition}" is no query of a variable`);
  // At the end of the range, as Grafana asks.
  const found = await prometheus.query(result[1], range.to);
  return found.map(({ metric, value }) => {
    const { __name__: name = '', ...labels } = metric;
    return `${name}{${Object.entries(labels).map(([key, text]) => `${key}="${text}"`).join(',')}} ${value[1]} ${value[0] * 1000}`;
  });
}

/**
 * The value of each variable, in their order, because later ones may use earlier ones: `chosen`, else the dashboard's own, else
 * the first. Throws where a variable has no value.
 */
export async function resolve(dashboard, prometheus, range, chosen = {}) {
  const values = {};
  for (const variable of dashboard.templating.list) {
    const { name, type } = variable;
    if (type === 'datasource') {
      values[name] = 'prometheus-under-test';
    } else if (type === 'textbox' || type === 'constant' || type === 'custom') {
      values[name] = chosen[name] ?? variable.current?.value ?? variable.query;
      const known = variable.options?.map((option) => option.value) ?? [];
      if (type === 'custom' && !known.includes(values[name])) throw new Error(`variable ${name} has no option ${values[name]}`);
      // A choice stands in a matcher =~ as it is.
      if (type === 'custom') values[name] = { literal: values[name] };
    } else if (type === 'query') {
      const definition = interpolate(variable.query.query, values);
      const found = sorted(variable.sort, [...new Set(regexFilter(variable.regex, await valuesOf(definition, prometheus, range)))]);
      if (chosen[name] !== undefined) {
        if (!found.includes(chosen[name])) throw new Error(`variable ${name}: ${definition} has no ${chosen[name]}, only ${found.join(', ')}`);
        values[name] = variable.multi ? [chosen[name]] : chosen[name];
      } else if (variable.includeAll && [variable.current?.value].flat().includes('$__all')) {
        values[name] = variable.allValue ? { literal: variable.allValue } : found;
        if (found.length === 0) throw new Error(`variable ${name}: ${definition} has no values`);
      } else if (found.length === 0) {
        throw new Error(`variable ${name}: ${definition} has no values`);
      } else {
        values[name] = variable.multi ? [found[0]] : found[0];
      }
    } else {
      throw new Error(`variable ${name} is of the unknown type ${type}`);
    }
  }
  return values;
}

/** How a value is shown to a person. */
export function spokenValue(variable, value) {
  if (value?.literal !== undefined) {
    const option = variable.options?.find((one) => one.value === value.literal);
    return option?.text ?? 'All';
  }
  return [value].flat().join(' + ');
}

/** Asks what a panel asks. Returns [{target, expr, legend, result: [{metric, values}]}]; throws with the panel's query. */
export async function ask(panel, prometheus, values, range, now, points) {
  const own = panelRange(panel, range, now);
  const step = interval(own, panel.maxDataPoints ?? points);
  const all = { ...values, ...builtIns(own, step) };
  return Promise.all(panel.targets.map(async (target) => {
    const expr = interpolate(target.expr, all);
    const legend = interpolate(target.legendFormat ?? '', all);
    try {
      const result = target.instant
        ? (await prometheus.query(expr, own.to)).map(({ metric, value }) => ({ metric, values: [value] }))
        : await prometheus.queryRange(expr, own, step);
      return { target, expr, legend, step, result };
    } catch (error) {
      throw new Error(`query ${target.refId} (${expr}): ${error.message}`);
    }
  }));
}

/** The name of a series in a legend. */
export function seriesName(legend, metric, expr) {
  const labels = Object.entries(metric).filter(([name]) => name !== '__name__');
  if (!legend || legend === '__auto') {
    return labels.length ? `${metric.__name__ ?? ''}{${labels.map(([name, text]) => `${name}="${text}"`).join(', ')}}` : metric.__name__ ?? expr;
  }
  return legend.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, name) => metric[name] ?? '').trim();
}
