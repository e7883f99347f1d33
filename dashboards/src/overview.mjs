// What needs me now? From here the other dashboards are one click away.
import { absentIsGood, bars, coloured, countOr0, dashboard, lines, noneIsGood, now, query, rows, stat, steps, table, to, variable } from './style.mjs';

const programs = '{__name__=~"cloudpulse_(exporter|predictor|scaler)_build_info"}';
const age = steps('green', [120, 'orange'], [600, 'red']);

export default dashboard({
  uid: 'cloudpulse-overview',
  description: 'What needs me now: alerts, limits that will be reached, forecasts and rules that stand still.',
  time: { from: 'now-1h', to: 'now' },
  variables: [
    variable.choice('alerts', 'Alerts', [['CloudPulse', 'CloudPulse.*'], ['All', '.*']], 'Which alerts are shown: those that CloudPulse ships, or all of this Prometheus.'),
  ],
  rows: [
    [4, [
      [4, stat({
        title: 'Alerts firing', background: true, thresholds: noneIsGood,
        description: 'Alerts that fire now. Which they are stands in the table below.',
        queries: [now('count(ALERTS{alertstate="firing",alertname=~"$alerts"}) or vector(0)', 'firing')],
      })],
      [4, stat({
        title: 'Programs down', background: true, thresholds: noneIsGood,
        description: 'Exporters, predictors and scalers that Prometheus has scraped within the last day and cannot reach now.',
        queries: [now(`count(up == 0 and on (job, instance) present_over_time(${programs}[1d])) or 0 * count(present_over_time(${programs}[1d]))`, 'down')],
      })],
      [4, stat({
        title: 'Max replicas reached in', unit: 's', ...absentIsGood('not foreseen'), thresholds: steps('red', [60, 'orange']),
        description: 'Time until the first rule needs more replicas than its maxReplicas allow; 0 where that is so now. Raise the maximum, and what stands behind it, before then.',
        queries: [now('min(cloudpulse_scaler_capacity_breach_seconds)', 'left')],
      })],
      [4, stat({
        title: 'Stale forecasts', background: true, thresholds: noneIsGood,
        description: 'Series whose forecast has not been renewed for ten minutes. Rules on them go by the load alone.',
        queries: [now(countOr0('time() - cloudpulse_forecast_timestamp_seconds > 600', 'cloudpulse_forecast_timestamp_seconds'), 'series')],
      })],
      [4, stat({
        title: 'Worse than naive', unit: 'percentunit', decimals: 0, thresholds: steps('green', [0.25, 'orange'], [0.5, 'red']),
        description: 'Share of forecasts (series and horizon) for which the last or yesterday\'s value was better over a day and is published instead. Harmless, but such a forecast is not worth its name.',
        queries: [now('(count(cloudpulse_forecast_demoted) or vector(0)) / count(cloudpulse_forecast{model="ensemble",quantile="0.5"})', 'demoted')],
      })],
      [4, stat({
        title: 'Unusual series', thresholds: steps('green', [1, 'orange']),
        description: 'Series whose last value has an anomaly score above 1: something happens that is unlike their own past.',
        queries: [now(countOr0('cloudpulse_anomaly_score > 1', 'cloudpulse_anomaly_score'), 'series')],
      })],
    ]],
    [6, [
      [14, table({
        title: 'Scaling rules', unit: 'short', noValue: 'No rule is in force',
        description: 'What each rule has and wants, within which bounds, and when its last turn was complete: all readings fresh and the target as it was told. A rule opens its dashboard.',
        queries: [
          rows('max by (rule, target) (cloudpulse_scaler_current_replicas)'),
          rows('max by (rule, target) (cloudpulse_scaler_desired_replicas)'),
          rows('max by (rule) (cloudpulse_scaler_bound_replicas{bound="min"})'),
          rows('max by (rule) (cloudpulse_scaler_bound_replicas{bound="max"})'),
          rows('time() - max by (rule) (cloudpulse_scaler_last_success_timestamp_seconds)'),
        ],
        columns: [
          ['rule', 'Rule', to('cloudpulse-scaling', 'Scaling of this rule', { rule: '${__value.raw:percentencode}' })],
          ['target', 'Target'],
          ['Value #A', 'Has', { 'custom.width': 80 }],
          ['Value #B', 'Wants', { 'custom.width': 80 }],
          ['Value #C', 'Min', { 'custom.width': 80 }],
          ['Value #D', 'Max', { 'custom.width': 80 }],
          ['Value #E', 'Last complete turn', { unit: 's', decimals: 0, ...coloured(age) }],
        ],
        sortBy: ['Rule'],
      })],
      [10, table({
        title: 'Alerts that fire', unit: 's', noValue: 'Nothing fires',
        description: 'What fires now and since when. Dashboard Alerts has the pending ones, their history and what comes close.',
        queries: [rows('label_join((time() - ALERTS_FOR_STATE{alertname=~"$alerts"}) + on (alertname, severity, forecast, rule, instance, job) group_right () (0 * max by (alertname, severity, forecast, rule, instance, job) (ALERTS{alertname=~"$alerts",alertstate="firing"})), "about", " ", "rule", "forecast", "instance")')],
        columns: [
          ['alertname', 'Alert', { 'custom.width': 215, ...to('cloudpulse-alerts', 'All alerts', { alerts: '.*' }) }],
          ['about', 'About'],
          ['severity', 'Severity', { 'custom.width': 78 }],
          ['Value', 'For', { unit: 's', decimals: 0, 'custom.width': 75 }],
        ],
        sortBy: ['For', 'desc'],
      })],
    ]],
    [9, [
      [14, table({
        title: 'Forecasts', noValue: 'Nothing is forecast',
        description: 'How many series each forecast has, how much better than the last or yesterday\'s value it is (skill, mean over series and horizons), how old the oldest is, and how many series are unusual now. A forecast opens its dashboard.',
        queries: [
          rows('count by (forecast) (cloudpulse_forecast_timestamp_seconds)'),
          rows('avg by (forecast) (cloudpulse_forecast_skill_ratio{model="ensemble"})'),
          rows('count by (forecast) (cloudpulse_forecast_demoted) or 0 * count by (forecast) (cloudpulse_forecast_timestamp_seconds)'),
          rows('time() - min by (forecast) (cloudpulse_forecast_timestamp_seconds)'),
          rows('count by (forecast) (cloudpulse_anomaly_score > 1) or 0 * count by (forecast) (cloudpulse_anomaly_score)'),
        ],
        columns: [
          ['forecast', 'Forecast', to('cloudpulse-forecasts', 'This forecast', { forecast: '${__value.raw:percentencode}' })],
          ['Value #A', 'Series', { 'custom.width': 80 }],
          ['Value #B', 'Skill', { unit: 'percentunit', decimals: 0, 'custom.width': 90, ...coloured(steps('orange', [0, 'green'])) }],
          ['Value #C', 'Naive instead', { 'custom.width': 120 }],
          ['Value #D', 'Age', { unit: 's', decimals: 0, 'custom.width': 90, ...coloured(steps('green', [300, 'orange'], [600, 'red'])) }],
          ['Value #E', 'Unusual', { 'custom.width': 90, ...coloured(steps('text', [1, 'orange'])) }],
        ],
        sortBy: ['Forecast'],
      })],
      [10, bars({
        title: 'Fullest in 15 minutes', unit: 'percentunit', decimals: 0, min: 0, max: 1, thresholds: steps('green', [0.75, 'orange'], [0.9, 'red']),
        description: 'Processors, memories and file systems that are expected to be fullest in 15 minutes: the value that is passed with a chance of one in ten; the median where no more is known yet.',
        queries: [now('label_replace(topk(6, max by (forecast, instance, mountpoint) (cloudpulse_forecast{forecast=~"node-(cpu|memory|disk)",horizon="15m",quantile=~"0.5|0.9",model="ensemble"})), "what", "$1", "forecast", "node-(.*)")', '{{what}} {{instance}} {{mountpoint}}')],
      })],
    ]],
    [7, [
      [14, lines({
        title: 'Replicas of all rules', step: true, min: 0, decimals: 0, calcs: ['lastNotNull'],
        description: 'What each target has.',
        queries: [query('max by (rule) (cloudpulse_scaler_current_replicas)', '{{rule}}')],
      })],
      [10, table({
        title: 'Programs', noValue: 'No program is scraped',
        description: 'Exporters, predictors and scalers that Prometheus scrapes, their versions, and whether they answer. One that does not stays here for an hour; after an update both versions do.',
        queries: [rows(`max by (job, instance, version) (last_over_time(${programs}[1h])) * on (job, instance) group_left () up`)],
        columns: [
          ['job', 'Job'], ['instance', 'Instance'], ['version', 'Version', { 'custom.width': 100 }],
          ['Value', 'Answers', {
            'custom.width': 100,
            mappings: [{ type: 'value', options: { 0: { text: 'no', color: 'red', index: 0 }, 1: { text: 'yes', color: 'green', index: 1 } } }],
            'custom.cellOptions': { type: 'color-text' },
          }],
        ],
        sortBy: ['Job'],
      })],
    ]],
  ],
});
