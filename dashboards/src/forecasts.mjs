// One series: what was, what will be, and when it passes a limit.
import { absentIsGood, absentIsNeutral, band, dashboard, forecast, limit, lines, measured, now, query, stat, steps, untilNow, variable } from './style.mjs';

const series = '${series:raw}';
/** The curve from now on; before now what was said one horizon ahead. */
const curve = (aggregate, quantile) => {
  const of = quantile ? `,quantile="${quantile}"` : '';
  return `${aggregate}(cloudpulse_forecast_path{${series}${of}}) or ${aggregate}(cloudpulse_forecast{${series},model="ensemble",horizon="$horizon"${of}} offset $horizon)`;
};
const actual = `(\${query:raw}) and ignoring (forecast) last_over_time(cloudpulse_forecast_timestamp_seconds{${series}}[1d] @ end())`;

export default dashboard({
  uid: 'cloudpulse-forecasts',
  description: 'A series, its forecast with its band, and when it passes a limit. The range reaches 15 minutes into the future, which Prometheus reads from the predictor (remote_read of cloudpulse_forecast_path).',
  time: { from: 'now-1h', to: 'now+15m' },
  variables: [
    variable.query('forecast', 'Forecast', 'label_values(cloudpulse_forecast_timestamp_seconds, forecast)'),
    // The range may end in the future, where a variable's query is asked; therefore the day before.
    variable.query('series', 'Series', 'query_result(last_over_time(cloudpulse_forecast_timestamp_seconds{forecast="$forecast"}[1d]))', { regex: '/\\{(.+?)\\}/' }),
    variable.query('query', 'Query', 'label_values(cloudpulse_predictor_forecast_info{forecast="$forecast"}, query)', { hide: 2, sort: 0 }),
    variable.query('horizon', 'Horizon', 'label_values(cloudpulse_forecast{forecast="$forecast"}, horizon)', { sort: 3 }),
    variable.text('limit', 'Limit', '0.9', 'Value, in the unit of the series, of which you want to know when it is passed.'),
  ],
  rows: [
    [4, [
      [4, stat({
        title: 'Now', decimals: 2, description: 'The last value of the series, in its own unit.',
        queries: [now(actual, 'now')],
      })],
      [4, stat({
        title: 'Expected in $horizon', decimals: 2, thresholds: steps('orange'),
        description: 'The median: as likely to be passed as not.',
        queries: [now(`cloudpulse_forecast{${series},model="ensemble",horizon="$horizon",quantile="0.5"}`, 'median')],
      })],
      [4, stat({
        title: 'Highest ahead', decimals: 2, thresholds: steps('orange'), ...absentIsNeutral('not known yet'),
        description: 'What the highest value until the longest published peak horizon passes with a chance of 1 in 100. A scaling rule goes by such quantiles. They are known once enough of the series was seen.',
        queries: [now(`max(cloudpulse_forecast_peak{${series},model="ensemble",quantile="0.99"})`, 'peak')],
      })],
      [4, stat({
        title: 'Passes $limit in', unit: 's', decimals: 0, ...absentIsGood('not foreseen'), thresholds: steps('red', [300, 'orange']),
        description: 'Time until the median passes the limit above; 0 where it does so now. It looks as far ahead as the longest horizon, at most an hour.',
        queries: [now(`min_over_time(timestamp(cloudpulse_forecast_path{${series},quantile="0.5"} > $limit)[1h:15s] offset -1h) - time()`, 'left')],
      })],
      [4, stat({
        title: 'Passes it at worst in', unit: 's', decimals: 0, ...absentIsGood('not foreseen'), thresholds: steps('red', [300, 'orange']),
        description: 'The same for the highest published quantile: the band\'s upper edge.',
        queries: [now(`min_over_time(timestamp(max(cloudpulse_forecast_path{${series}}) > $limit)[1h:15s] offset -1h) - time()`, 'left')],
      })],
      [4, stat({
        title: 'Made', unit: 's', decimals: 0, thresholds: steps('green', [300, 'orange'], [600, 'red']),
        description: 'Age of the forecast. One that is too old is not shown.',
        queries: [now(`time() - cloudpulse_forecast_timestamp_seconds{${series}}`, 'age')],
      })],
    ]],
    [11, [
      [24, lines({
        title: 'The series and its future', legend: 'list', calcs: ['lastNotNull'],
        description: 'Blue is what was measured. Orange is the forecast with its band, from the lowest to the highest published quantile: from now on the curve, before that what was said one horizon ahead. Where blue leaves the band more often than the quantiles say, look at Forecast quality.',
        queries: [
          query(curve('max'), 'upper'),
          query(curve('min'), 'lower'),
          query(curve('max', '0.5'), 'forecast (median)'),
          query(untilNow(actual), 'measured'),
          query('vector($limit)', 'limit'),
        ],
        overrides: [...band('upper', 'lower'), forecast('forecast (median)'), measured('measured'), limit('limit')],
      })],
    ]],
    [8, [
      [12, lines({
        title: 'Highest value ahead', noValue: 'Not known yet', calcs: ['lastNotNull'],
        description: 'The highest value that is expected within each peak horizon, by quantile, as it was published: how much room a scaler would leave.',
        queries: [query(untilNow(`max by (horizon, quantile) (cloudpulse_forecast_peak{${series},model="ensemble",quantile=~"0.5|0.9|0.99"})`), '{{quantile}} within {{horizon}}')],
      })],
      [12, lines({
        title: 'How unusual', min: 0, most: 1.2, noValue: 'Not known yet', thresholds: steps('transparent', [1, 'red']), dashedThresholds: true, calcs: ['lastNotNull'],
        description: 'Anomaly score of the last value beside the series\' own past; above 1 is anomalous. Bars are alarms by what was unusual.',
        queries: [
          query(untilNow(`max(cloudpulse_anomaly_score{${series}})`), 'score'),
          query(untilNow(`sum by (cause) (increase(cloudpulse_anomaly_alarms_total{${series}}[$__rate_interval])) > 0`), 'alarm: {{cause}}'),
        ],
        overrides: [measured('score'), {
          matcher: { id: 'byRegexp', options: '/^alarm/' },
          properties: [{ id: 'custom.drawStyle', value: 'bars' }, { id: 'custom.fillOpacity', value: 60 }],
        }],
      })],
    ]],
  ],
});
