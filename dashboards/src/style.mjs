// How every panel looks, so that one thing has one look on all dashboards: a forecast is orange and dashed, what was
// measured is blue, capacity is green, a limit is red.

export const datasource = { type: 'prometheus', uid: '${datasource}' };

/** Thresholds: style.steps('green', [0.7, 'orange'], [0.9, 'red']). */
export const steps = (base, ...above) => ({
  mode: 'absolute',
  steps: [{ color: base, value: null }, ...above.map(([value, color]) => ({ color, value }))],
});

/** Zero is good, anything else is not. */
export const noneIsGood = steps('green', [1, 'red']);

// --- Queries -----------------------------------------------------------------------------------------------------------

/** A line over the range: query(expr, legend). */
export const query = (expr, legendFormat, more = {}) => ({ expr, legendFormat, range: true, ...more });

/** One value, at the end of the panel's range. */
export const now = (expr, legendFormat = '__auto') => ({ expr, legendFormat, instant: true, range: false });

/** Rows: each label is a column. */
export const rows = (expr) => ({ expr, legendFormat: '', instant: true, range: false, format: 'table' });

const seen = (offset) => `group(present_over_time(cloudpulse_predictor_build_info[5m]${offset}))`;
/**
 * What was measured, and no more: in a range that reaches into the future Prometheus repeats the last value for five minutes,
 * and rates fade out. Now is where the predictor was scraped within the last five minutes and will not be in the next.
 */
export const untilNow = (expr) => `(${expr}) unless on () (${seen('')} unless on () ${seen(' offset -5m')})`;

/** A baseline of 0 where `exists` has series, so that "none" can be told from "nothing is known". */
export const countOr0 = (expr, exists) => `count(${expr}) or 0 * count(${exists})`;

// --- Overrides ---------------------------------------------------------------------------------------------------------

const absent = (color) => (text) => ({
  noValue: text,
  mappings: [{ type: 'special', options: { match: 'null', result: { text, color, index: 0 } } }],
});
/** How a stat says that there is no value: where that is good, and where it is neither good nor bad. */
export const absentIsGood = absent('green');
export const absentIsNeutral = absent('text');

const override = (matcher, properties) => ({
  matcher,
  properties: Object.entries(properties).map(([id, value]) => ({ id, value })),
});

/** Properties of one series or column by its name. */
export const named = (name, properties) => override({ id: 'byName', options: name }, properties);

/** The same by a regular expression on the name. */
export const like = (pattern, properties) => override({ id: 'byRegexp', options: `/${pattern}/` }, properties);

export const fixed = (color) => ({ mode: 'fixed', fixedColor: color });
const dash = { fill: 'dash', dash: [8, 6] };
const unlisted = { legend: true, tooltip: false, viz: false };

/** Looks of the series that have a meaning. */
export const measured = (name) => named(name, { color: fixed('blue') });
export const forecast = (name) => named(name, { color: fixed('orange'), 'custom.lineStyle': dash });
export const limit = (name) =>
  named(name, { color: fixed('red'), 'custom.lineStyle': dash, 'custom.lineWidth': 1, 'custom.fillOpacity': 0 });
export const capacity = (name) => named(name, { color: fixed('green'), 'custom.fillOpacity': 18 });

/** The band between two quantiles. Each is one series, because the fill goes by name. */
export const band = (upper, lower) => [
  named(upper, {
    color: fixed('orange'),
    'custom.lineWidth': 0,
    'custom.fillBelowTo': lower,
    'custom.fillOpacity': 20,
    'custom.hideFrom': unlisted,
  }),
  named(lower, { color: fixed('orange'), 'custom.lineWidth': 0, 'custom.fillOpacity': 0, 'custom.hideFrom': unlisted }),
];

// --- Panels ------------------------------------------------------------------------------------------------------------

const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
const targets = (queries) => queries.map((one, i) => ({ refId: letters[i], datasource, editorMode: 'code', ...one }));

function panel(type, { title, description, unit = 'short', decimals, min, max, noValue, thresholds, mappings, color, links,
  custom, overrides = [], queries, options, timeFrom, transformations, maxDataPoints }) {
  const defaults = { unit };
  for (const [key, value] of Object.entries({ decimals, min, max, noValue, links, mappings })) {
    if (value !== undefined) defaults[key] = value;
  }
  defaults.color = color ?? { mode: thresholds ? 'thresholds' : 'palette-classic' };
  defaults.thresholds = thresholds ?? steps('green');
  if (custom) defaults.custom = custom;
  const made = { type, title, description, datasource, fieldConfig: { defaults, overrides }, options, targets: targets(queries) };
  if (timeFrom) Object.assign(made, { timeFrom, hideTimeOverride: true });
  if (transformations) made.transformations = transformations;
  if (maxDataPoints) made.maxDataPoints = maxDataPoints;
  return made;
}

const look = {
  drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1.5, fillOpacity: 0, gradientMode: 'none', showPoints: 'never',
  spanNulls: false, stacking: { group: 'A', mode: 'none' }, axisPlacement: 'auto', axisLabel: '',
  scaleDistribution: { type: 'linear' }, hideFrom: { legend: false, tooltip: false, viz: false },
  thresholdsStyle: { mode: 'off' },
};

/** Lines over time. `step: true` for what changes at a moment, `bars: true` for what is counted. */
export function lines({ step, bars, stack, dashedThresholds, legend = 'list', calcs = [], least, most, ...rest }) {
  const custom = {
    ...look,
    ...(step && { lineInterpolation: 'stepAfter' }),
    ...(bars && { drawStyle: 'bars', fillOpacity: 70, lineWidth: 0 }),
    ...(stack && { stacking: { group: 'A', mode: 'normal' } }),
    ...(dashedThresholds && { thresholdsStyle: { mode: 'dashed' } }),
    ...(least !== undefined && { axisSoftMin: least }),
    ...(most !== undefined && { axisSoftMax: most }),
  };
  return panel('timeseries', {
    ...rest,
    color: { mode: 'palette-classic' },
    custom,
    options: {
      legend: { displayMode: legend, placement: 'bottom', showLegend: true, calcs },
      tooltip: { mode: 'multi', sort: 'desc' },
    },
  });
}

/** One number, as it is now. `trend: true` draws its past behind it. */
export function stat({ trend = false, text = 'auto', background = false, ...rest }) {
  return panel('stat', {
    timeFrom: trend ? undefined : '5m',
    thresholds: steps('text'),
    ...rest,
    options: {
      colorMode: background ? 'background' : 'value', graphMode: trend ? 'area' : 'none', justifyMode: 'auto',
      orientation: 'auto', reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false }, textMode: text,
      wideLayout: true, showPercentChange: false,
    },
  });
}

/** Bars beside each other, one for each series, as they are now. */
export function bars({ timeFrom = '5m', ...rest }) {
  return panel('bargauge', {
    timeFrom,
    ...rest,
    options: {
      displayMode: 'basic', orientation: 'horizontal', showUnfilled: true, valueMode: 'color', namePlacement: 'auto',
      minVizHeight: 16, maxVizHeight: 28, minVizWidth: 8, sizing: 'auto', text: { titleSize: 12, valueSize: 15 },
      legend: { displayMode: 'list', placement: 'bottom', showLegend: false, calcs: [] },
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    },
  });
}

/**
 * A table as things are now. `columns` names the ones that are shown and what they are called: [['rule', 'Rule'], ['Value #A',
 * 'Replicas', {unit: 'short'}]]. Queries are put side by side where their labels agree.
 */
export function table({ columns, sortBy, timeFrom = '5m', ...rest }) {
  const overrides = [
    // The panel's noValue is for an empty table; an empty cell is a dash.
    like('.*', { noValue: '-' }),
    ...columns.filter(([, , properties]) => properties).map(([, name, properties]) => named(name, properties)),
  ];
  return panel('table', {
    timeFrom,
    custom: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false, filterable: false },
    ...rest,
    overrides,
    transformations: [
      ...(rest.queries.length > 1 ? [{ id: 'merge', options: {} }] : []),
      { id: 'filterFieldsByName', options: { include: { names: columns.map(([field]) => field) } } },
      {
        id: 'organize',
        options: {
          excludeByName: {},
          includeByName: {},
          indexByName: Object.fromEntries(columns.map(([field], i) => [field, i])),
          renameByName: Object.fromEntries(columns.map(([field, name]) => [field, name])),
        },
      },
    ],
    options: { showHeader: true, cellHeight: 'sm', ...(sortBy && { sortBy: [{ displayName: sortBy[0], desc: sortBy[1] === 'desc' }] }) },
  });
}

/** A cell in the colour of its threshold. */
export const coloured = (thresholds) => ({
  thresholds,
  mappings: absentIsNeutral('-').mappings,
  color: { mode: 'thresholds' },
  'custom.cellOptions': { type: 'color-text' },
});
/** A cell with a bar in it. */
export const gauge = (thresholds) => ({
  thresholds, min: 0, max: 1, unit: 'percentunit', decimals: 0, color: { mode: 'thresholds' },
  'custom.cellOptions': { type: 'gauge', mode: 'basic', valueDisplayMode: 'text' },
});
/** A link to another dashboard of ours from a cell. */
export const to = (uid, title, variables = {}) => ({
  links: [{ title, url: `/d/${uid}?${['${datasource:queryparam}', ...Object.entries(variables).map(([name, value]) => `var-${name}=${value}`)].join('&')}` }],
});

// --- Dashboards --------------------------------------------------------------------------------------------------------

/** Variables. Values of a query come anew with each change of the time range. */
export const variable = {
  query: (name, label, definition, more = {}) => ({
    name, label, type: 'query', datasource, definition, query: { qryType: 5, query: definition, refId: 'PrometheusVariableQueryEditor-VariableQuery' },
    refresh: 2, sort: 1, regex: '', multi: false, includeAll: false, hide: 0, skipUrlSync: false, current: {}, options: [], ...more,
  }),
  /** Any number of values; all of them at first. */
  many: (name, label, definition, more = {}) =>
    variable.query(name, label, definition, {
      multi: true, includeAll: true, allValue: '.*', current: { selected: true, text: ['All'], value: ['$__all'] }, ...more,
    }),
  text: (name, label, value, description) => ({
    name, label, description, type: 'textbox', query: value, hide: 0, skipUrlSync: false,
    current: { selected: true, text: value, value }, options: [{ selected: true, text: value, value }],
  }),
  choice: (name, label, choices, description) => {
    const options = choices.map(([text, value], i) => ({ selected: i === 0, text, value }));
    return {
      name, label, description, type: 'custom', query: choices.map(([text, value]) => `${text} : ${value}`).join(', '), hide: 0,
      skipUrlSync: false, multi: false, includeAll: false, current: options[0], options,
    };
  },
};

const pages = [
  ['cloudpulse-overview', 'Overview'],
  ['cloudpulse-forecasts', 'Forecasts'],
  ['cloudpulse-quality', 'Forecast quality'],
  ['cloudpulse-scaling', 'Scaling'],
  ['cloudpulse-nodes', 'Nodes'],
  ['cloudpulse-alerts', 'Alerts'],
];

/** The times of the scaler's changes, drawn into every panel over time. */
export const scaleEvents = (direction, color, rule) => ({
  name: direction === 'up' ? 'Scaled out' : 'Scaled in',
  datasource, enable: true, hide: false, iconColor: color,
  expr: `increase(cloudpulse_scaler_scale_events_total{direction="${direction}",rule=~"${rule}"}[1m]) > 0`,
  step: '60s', titleFormat: direction === 'up' ? 'Scaled out' : 'Scaled in', textFormat: '{{rule}}', tagKeys: 'rule',
});

/**
 * A dashboard of rows of panels: [height, [[width, panel], …]]. 24 columns fill the width; 20 units of height are what a
 * laptop's screen shows at once.
 */
export function dashboard({ uid, description, tags = [], time, refresh = '30s', variables, annotations = [], rows: layout }) {
  const panels = [];
  let y = 0;
  for (const [height, cells] of layout) {
    let x = 0;
    for (const [width, one] of cells) {
      panels.push({ id: panels.length + 1, gridPos: { x, y, w: width, h: height }, ...one });
      x += width;
    }
    if (x !== 24) throw new Error(`${uid}: a row of panels is ${x} columns wide, not 24`);
    y += height;
  }
  return {
    uid,
    title: `CloudPulse / ${pages.find(([id]) => id === uid)[1]}`,
    description,
    tags: ['cloudpulse', ...tags],
    schemaVersion: 42,
    version: 1,
    editable: true,
    graphTooltip: 1,
    fiscalYearStartMonth: 0,
    weekStart: '',
    liveNow: false,
    refresh,
    time,
    timepicker: {},
    timezone: 'browser',
    links: pages.filter(([id]) => id !== uid).map(([id, title]) => ({
      title, type: 'link', icon: 'dashboard', url: `/d/${id}?\${datasource:queryparam}`, tooltip: '', tags: [], asDropdown: false,
      includeVars: false, keepTime: false, targetBlank: false,
    })),
    templating: {
      list: [
        { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', refresh: 1, regex: '', hide: 0,
          multi: false, includeAll: false, skipUrlSync: false, current: {}, options: [] },
        ...variables,
      ],
    },
    annotations: { list: annotations },
    panels,
  };
}
