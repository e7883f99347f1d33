// Does each forecast earn its place? Every one that was issued is scored when its time has come.
import { absentIsNeutral, coloured, countOr0, dashboard, fixed, lines, named, now, query, rows, stat, steps, table, to, variable } from './style.mjs';

const of = 'forecast=~"$forecast",horizon=~"$horizon"';
const skill = steps('red', [-0.05, 'orange'], [0, 'green']);
const near = (level) => steps('orange', [level - 0.05, 'green'], [Math.min(level + 0.05, 0.999), 'text']);

export default dashboard({
  uid: 'cloudpulse-quality',
  description: 'Skill against the last and yesterday\'s value, coverage of the intervals, and what is published where a forecast loses. All of it over the last day, of what was really issued.',
  time: { from: 'now-6h', to: 'now' },
  variables: [
    variable.many('forecast', 'Forecast', 'label_values(cloudpulse_forecast_timestamp_seconds, forecast)'),
    variable.many('horizon', 'Horizon', 'label_values(cloudpulse_forecast{forecast=~"$forecast"}, horizon)', { sort: 3 }),
  ],
  rows: [
    [4, [
      [4, stat({
        title: 'Skill', unit: 'percentunit', decimals: 0, thresholds: skill, ...absentIsNeutral('not scored yet'),
        description: 'How much smaller the error is than that of the better of the last and yesterday\'s value; mean over series and horizons. Below 0 a forecast is worse than none.',
        queries: [now(`avg(cloudpulse_forecast_skill_ratio{${of},model="ensemble"})`, 'skill')],
      })],
      [4, stat({
        title: 'Better than naive', unit: 'percentunit', decimals: 0, thresholds: steps('red', [0.5, 'orange'], [0.75, 'green']), ...absentIsNeutral('not scored yet'),
        description: 'Share of forecasts (series and horizon) with a skill above 0.',
        queries: [now(`(count(cloudpulse_forecast_skill_ratio{${of},model="ensemble"} > 0) or vector(0)) / count(cloudpulse_forecast_skill_ratio{${of},model="ensemble"})`, 'share')],
      })],
      [4, stat({
        title: 'Inside the 90 % band', unit: 'percentunit', decimals: 1, thresholds: near(0.9), ...absentIsNeutral('not scored yet'),
        description: 'Share of values that fell into the 90 % interval, mean over series and horizons. 90 % is right; less is a promise that is not kept, more is a band too wide.',
        queries: [now(`avg(cloudpulse_forecast_coverage_ratio{${of},level="0.9"})`, 'coverage')],
      })],
      [4, stat({
        title: 'Naive instead', thresholds: steps('green', [1, 'orange']),
        description: 'Forecasts (series and horizon) that lost to a naive one over a day, so that the naive one is published until they are better again.',
        queries: [now(countOr0(`cloudpulse_forecast_demoted{${of}}`, `cloudpulse_forecast{${of},model="ensemble",quantile="0.5"}`), 'demoted')],
      })],
      [4, stat({
        title: 'Weight of the network', unit: 'percentunit', decimals: 0, ...absentIsNeutral('no network'),
        description: 'Weight of the network that mixes the models beside the other models, mean over series and horizons: it counts by what it was worth.',
        queries: [now('avg(cloudpulse_predictor_network_weight_ratio{forecast=~"$forecast"})', 'weight')],
      })],
      [4, stat({
        title: 'Series left out', thresholds: steps('green', [1, 'red']),
        description: 'Series beyond max_series that are not forecast. Raise it in the predictor\'s configuration, or narrow the query.',
        queries: [now('sum(cloudpulse_predictor_series_dropped{forecast=~"$forecast"}) or 0 * sum(cloudpulse_predictor_series{forecast=~"$forecast"})', 'series')],
      })],
    ]],
    [8, [
      [12, lines({
        title: 'Skill', noValue: 'Nothing was scored yet', unit: 'percentunit', max: 1, thresholds: steps('transparent', [0, 'red']), dashedThresholds: true, calcs: ['lastNotNull'],
        description: '1 - error / error of the better of the last and yesterday\'s value. Above the line the forecast is worth having. What is below -100 % is drawn there.',
        queries: [query(`clamp_min(avg by (forecast) (cloudpulse_forecast_skill_ratio{${of},model="ensemble"}), -1)`, '{{forecast}}')],
      })],
      [12, lines({
        title: 'Coverage of the bands', noValue: 'Nothing was scored yet', unit: 'percentunit', max: 1, calcs: ['lastNotNull'], dashedThresholds: true,
        thresholds: steps('transparent', [0.8, 'green'], [0.9, 'orange'], [0.95, 'blue']),
        description: 'Share of values inside the 80, 90 and 95 % intervals, mean over series and horizons. Each line belongs at the dashed one of its colour.',
        queries: [query(`avg by (level) (cloudpulse_forecast_coverage_ratio{${of}})`, 'level {{level}}')],
        overrides: [named('level 0.8', { color: fixed('green') }), named('level 0.9', { color: fixed('orange') }), named('level 0.95', { color: fixed('blue') })],
      })],
    ]],
    [9, [
      [24, table({
        title: 'Score card', unit: 'percentunit', decimals: 0, noValue: 'Nothing was scored yet: a forecast is scored when its time has come, and shown after 30',
        description: 'Each forecast and horizon: the mean and the worst skill over its series, the share of values inside its intervals, and how many series have a naive forecast instead. A forecast opens its dashboard.',
        queries: [
          rows(`avg by (forecast, horizon) (cloudpulse_forecast_skill_ratio{${of},model="ensemble"})`),
          rows(`min by (forecast, horizon) (cloudpulse_forecast_skill_ratio{${of},model="ensemble"})`),
          rows(`avg by (forecast, horizon) (cloudpulse_forecast_coverage_ratio{${of},level="0.8"})`),
          rows(`avg by (forecast, horizon) (cloudpulse_forecast_coverage_ratio{${of},level="0.9"})`),
          rows(`avg by (forecast, horizon) (cloudpulse_forecast_coverage_ratio{${of},level="0.95"})`),
          rows(`count by (forecast, horizon) (cloudpulse_forecast{${of},model="ensemble",quantile="0.5"})`),
          rows(`count by (forecast, horizon) (cloudpulse_forecast_demoted{${of}}) or 0 * count by (forecast, horizon) (cloudpulse_forecast{${of},model="ensemble",quantile="0.5"})`),
        ],
        columns: [
          ['forecast', 'Forecast', to('cloudpulse-forecasts', 'This forecast', { forecast: '${__value.raw:percentencode}' })],
          ['horizon', 'Horizon'],
          ['Value #F', 'Series', { unit: 'short' }],
          ['Value #A', 'Skill', coloured(skill)],
          ['Value #B', 'Worst skill', coloured(skill)],
          ['Value #C', 'In the 80 % band', coloured(near(0.8))],
          ['Value #D', 'In the 90 % band', coloured(near(0.9))],
          ['Value #E', 'In the 95 % band', coloured(near(0.95))],
          ['Value #G', 'Naive instead', { unit: 'short', ...coloured(steps('text', [1, 'orange'])) }],
        ],
        sortBy: ['Forecast'],
      })],
    ]],
    [8, [
      [8, lines({
        title: 'What is published (series × horizons)', bars: true, stack: true, maxDataPoints: 120, min: 0, decimals: 0,
        description: 'Whether the combination of the models is published, or a baseline that was better over a day.',
        queries: [
          query(`count(cloudpulse_forecast{${of},model="ensemble",quantile="0.5"}) - (count(cloudpulse_forecast_demoted{${of}}) or vector(0))`, 'combination'),
          query(`count by (model) (cloudpulse_forecast_demoted{${of}})`, '{{model}}'),
        ],
        overrides: [named('combination', { color: fixed('green'), 'custom.fillOpacity': 40 })],
      })],
      [8, lines({
        title: 'Breaches of limits', step: true, min: 0, decimals: 0, noValue: 'No forecast has a breach_above',
        description: 'Of the last 100 times that series went above the breach_above of their forecast, those that a forecast had seen coming and those that none had.',
        queries: [query('sum by (predicted) (cloudpulse_forecast_breaches{forecast=~"$forecast"})', 'predicted: {{predicted}}')],
        overrides: [named('predicted: true', { color: fixed('green') }), named('predicted: false', { color: fixed('red') })],
      })],
      [8, lines({
        title: 'Time to forecast all series once', unit: 's', min: 0,
        description: 'Mean duration of a cycle of each forecast. Beyond its interval, forecasts get old: give the predictor more CPU, or shards.',
        queries: [query('sum by (forecast) (rate(cloudpulse_predictor_forecast_duration_seconds_sum{forecast=~"$forecast"}[5m])) / (sum by (forecast) (rate(cloudpulse_predictor_forecast_duration_seconds_count{forecast=~"$forecast"}[5m])) > 0)', '{{forecast}}')],
      })],
    ]],
  ],
});
