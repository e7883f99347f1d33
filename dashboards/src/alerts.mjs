// What fires, what will, and what comes close.
import { bars, dashboard, lines, noneIsGood, now, query, rows, stat, steps, table, to, variable } from './style.mjs';

const of = 'alertname=~"$alerts"';
const firing = (severity) => now(`count(ALERTS{${of},alertstate="firing",severity=~"${severity}"}) or vector(0)`, 'firing');
const labels = 'alertname, severity, forecast, rule, instance, job';

export default dashboard({
  uid: 'cloudpulse-alerts',
  description: 'Alerts that fire, that are pending, and what comes close to one; from Prometheus alone.',
  time: { from: 'now-6h', to: 'now' },
  variables: [
    variable.choice('alerts', 'Alerts', [['CloudPulse', 'CloudPulse.*'], ['All', '.*']], 'Which alerts are shown: those that CloudPulse ships, or all of this Prometheus.'),
  ],
  rows: [
    [4, [
      [6, stat({ title: 'Critical', background: true, thresholds: noneIsGood, description: 'Alerts of severity critical that fire: people wait or requests fail now.', queries: [firing('critical|page')] })],
      [6, stat({ title: 'Warning', background: true, thresholds: steps('green', [1, 'orange']), description: 'Alerts of severity warning that fire: act before it becomes critical.', queries: [firing('warning')] })],
      [6, stat({ title: 'Info', background: true, thresholds: steps('green', [1, 'blue']), description: 'Alerts of severity info that fire, and those without a severity: look at them in working hours.', queries: [firing('info|none|')] })],
      [6, stat({
        title: 'Pending', background: true, thresholds: steps('green', [1, 'orange']), description: 'Alerts whose condition holds, but not for long enough to fire.',
        queries: [now(`count(ALERTS{${of},alertstate="pending"}) or vector(0)`, 'pending')],
      })],
    ]],
    [7, [
      [24, table({
        title: 'Active alerts', unit: 'short', noValue: 'Nothing fires and nothing is pending',
        description: 'Each alert that fires or is pending, what it is about, and for how long its condition has held.',
        queries: [rows(`(time() - max by (${labels}) (ALERTS_FOR_STATE{${of}})) + on (${labels}) group_right () (0 * max by (alertstate, ${labels}) (ALERTS{${of}}))`)],
        columns: [
          ['alertname', 'Alert'],
          ['alertstate', 'State', {
            mappings: [{ type: 'value', options: { firing: { color: 'red', index: 0, text: 'firing' }, pending: { color: 'orange', index: 1, text: 'pending' } } }],
            'custom.cellOptions': { type: 'color-text' },
          }],
          ['severity', 'Severity'],
          ['rule', 'Rule', to('cloudpulse-scaling', 'Scaling of this rule', { rule: '${__value.raw:percentencode}' })],
          ['forecast', 'Forecast', to('cloudpulse-forecasts', 'This forecast', { forecast: '${__value.raw:percentencode}' })],
          ['instance', 'Instance', to('cloudpulse-nodes', 'This machine', { instance: '${__value.raw:percentencode}' })],
          ['Value', 'For', { unit: 's', decimals: 0 }],
        ],
        sortBy: ['For', 'desc'],
      })],
    ]],
    [7, [
      [12, lines({
        title: 'Firing', bars: true, stack: true, maxDataPoints: 120, min: 0, decimals: 0, noValue: 'Nothing fired in this range',
        description: 'How many alerts fired at each moment.',
        queries: [query(`sum by (alertname) (ALERTS{${of},alertstate="firing"})`, '{{alertname}}')],
      })],
      [12, lines({
        title: 'Pending', bars: true, stack: true, maxDataPoints: 120, min: 0, decimals: 0, noValue: 'Nothing was pending in this range',
        description: 'Conditions that held, but not yet for long enough. One that comes and goes belongs to a limit that is too tight.',
        queries: [query(`sum by (alertname) (ALERTS{${of},alertstate="pending"})`, '{{alertname}}')],
      })],
    ]],
    [8, [
      [8, bars({
        title: 'Close to CloudPulsePredictedHighCPU', unit: 'percentunit', decimals: 0, min: 0, max: 1, thresholds: steps('green', [0.75, 'orange'], [0.9, 'red']),
        description: 'CPU that is expected in 15 minutes (median) on the fullest machines. The alert fires above 90 %.',
        queries: [now('topk(8, max by (instance) (cloudpulse_forecast{forecast="node-cpu",horizon="15m",quantile="0.5",model="ensemble"}))', '{{instance}}')],
      })],
      [8, bars({
        title: 'Close to CloudPulseForecastStale', unit: 's', decimals: 0, min: 0, max: 600, thresholds: steps('green', [300, 'orange'], [600, 'red']),
        description: 'Age of the oldest series of each forecast. The alert fires above 10 minutes.',
        queries: [now('topk(8, time() - min by (forecast) (cloudpulse_forecast_timestamp_seconds))', '{{forecast}}')],
      })],
      [8, bars({
        title: 'Close to CloudPulseRuleBlind', unit: 's', decimals: 0, min: 0, max: 600, thresholds: steps('green', [300, 'orange'], [600, 'red']), noValue: 'No rule has had a complete turn',
        description: 'Time since the last complete turn of each rule. The alert fires above 10 minutes.',
        queries: [now('topk(8, time() - max by (rule) (cloudpulse_scaler_last_success_timestamp_seconds))', '{{rule}}')],
      })],
    ]],
  ],
});
