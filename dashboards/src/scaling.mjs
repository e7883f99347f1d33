// One rule: what it wants, why, and what came of it.
import {
  absentIsGood, absentIsNeutral, bars, capacity, dashboard, fixed, forecast, limit, lines, measured, named, now, query, scaleEvents, stat, steps, variable,
} from './style.mjs';

const rule = 'rule="$rule"';
const one = (metric, more = '') => `max(${metric}{${rule}${more}})`;
/** Replica-hours in the range; minutes without data count nothing. */
const hours = (expr) => `sum_over_time(${expr}[$__range:1m]) / 60`;

export default dashboard({
  uid: 'cloudpulse-scaling',
  description: 'A scaling rule: demand and capacity, what it wants and why, what that costs, and what keeps it from its work.',
  time: { from: 'now-1h', to: 'now' },
  variables: [
    variable.query('rule', 'Rule', 'label_values(cloudpulse_scaler_bound_replicas, rule)'),
    variable.query('forecast', 'Load of forecast', 'label_values(cloudpulse_forecast_peak, forecast)', { sort: 2 }),
    variable.query('query', 'Query', 'label_values(cloudpulse_predictor_forecast_info{forecast="$forecast"}, query)', { hide: 2, sort: 0 }),
    variable.query('horizon', 'Horizon', 'label_values(cloudpulse_forecast{forecast="$forecast"}, horizon)', { sort: 3 }),
  ],
  annotations: [scaleEvents('up', 'orange', '$rule'), scaleEvents('down', 'blue', '$rule')],
  rows: [
    [4, [
      [3, stat({
        title: 'Has', description: 'Replicas that the target has now.', trend: true, decimals: 0, thresholds: steps('green'),
        queries: [query(one('cloudpulse_scaler_current_replicas'), 'replicas')],
      })],
      [3, stat({
        title: 'Wants', description: 'Replicas that the rule wants after all limits.', trend: true, decimals: 0, thresholds: steps('blue'),
        queries: [query(one('cloudpulse_scaler_desired_replicas'), 'replicas')],
      })],
      [3, stat({
        title: 'May have', text: 'value_and_name', description: 'Fewest and most replicas that the rule allows now; schedules change them.',
        queries: [now(one('cloudpulse_scaler_bound_replicas', ',bound="min"'), 'min'), now(one('cloudpulse_scaler_bound_replicas', ',bound="max"'), 'max')],
      })],
      [3, stat({
        title: 'Max reached in', unit: 's', ...absentIsGood('not foreseen'), thresholds: steps('red', [60, 'orange']),
        description: 'Time until the forecast needs more replicas than maxReplicas; 0 where it is so now.',
        queries: [now(one('cloudpulse_scaler_capacity_breach_seconds'), 'left')],
      })],
      [3, stat({
        title: 'Looks ahead', unit: 's', ...absentIsNeutral('no forecast'), description: 'Horizon of the forecast that the rule goes by. It has to be longer than a replica takes to start.',
        queries: [now(`min(cloudpulse_scaler_horizon_seconds{${rule}})`, 'horizon')],
      })],
      [3, stat({
        title: 'A replica takes', unit: 's', decimals: 1, ...absentIsNeutral('none seen yet'),
        description: 'Time from creation until it can serve, of 95 % of the last 100 replicas.',
        queries: [now(one('cloudpulse_scaler_lead_time_seconds'), 'lead time')],
      })],
      [3, stat({
        title: 'Last full turn', unit: 's', decimals: 0, thresholds: steps('green', [120, 'orange'], [600, 'red']), noValue: 'none yet',
        description: 'How long ago all readings were fresh and the target was as it was told.',
        queries: [now(`time() - max(cloudpulse_scaler_last_success_timestamp_seconds{${rule}})`, 'age')],
      })],
      [3, stat({
        title: 'Leader', text: 'name', noValue: 'nobody acts', thresholds: steps('green'),
        description: 'The scaler that acts; others stand by. Without a Lease each acts by itself.',
        queries: [now('cloudpulse_scaler_leader == 1', '{{instance}}')],
      })],
    ]],
    [9, [
      [12, lines({
        title: 'Demand and capacity, in replicas', step: true, min: 0, decimals: 0, calcs: ['lastNotNull'],
        description: 'What the load asks for now, what its forecast asks for, and what there is to serve it (ready, where the target can tell). Demand above the green area is a shortage; green above the demand is what the forecast prepares.',
        queries: [
          query(`${one('cloudpulse_scaler_ready_replicas')} or ${one('cloudpulse_scaler_current_replicas')}`, 'serving'),
          query(one('cloudpulse_scaler_recommended_replicas', ',source="reactive"'), 'for the load now'),
          query(one('cloudpulse_scaler_recommended_replicas', ',source="forecast"'), 'for the forecast'),
          query(one('cloudpulse_scaler_bound_replicas', ',bound="max"'), 'most'),
        ],
        overrides: [capacity('serving'), measured('for the load now'), forecast('for the forecast'), limit('most')],
      })],
      [12, lines({
        title: 'Load and its forecast', min: 0, calcs: ['lastNotNull'],
        description: 'The load of the forecast chosen above, what was expected one horizon before, and the peak that was expected until then with a chance of 1 in 100.',
        queries: [
          query('sum(${query:raw})', 'load'),
          query('sum(cloudpulse_forecast{forecast="$forecast",model="ensemble",quantile="0.5",horizon="$horizon"} offset $horizon)', 'expected $horizon before'),
          query('sum(max without (horizon) (cloudpulse_forecast_peak{forecast="$forecast",model="ensemble",quantile="0.99",horizon="$horizon"} offset $horizon))', 'peak expected $horizon before'),
        ],
        overrides: [
          measured('load'), { matcher: { id: 'byRegexp', options: '/^expected/' }, properties: forecast('').properties },
          { matcher: { id: 'byRegexp', options: '/^peak/' }, properties: [{ id: 'color', value: fixed('purple') }, { id: 'custom.lineWidth', value: 1 }] },
        ],
      })],
    ]],
    [8, [
      [12, lines({
        title: 'Why: decisions by reason', bars: true, stack: true, min: 0, decimals: 0, calcs: ['sum'], maxDataPoints: 90,
        description: 'Decisions in the HPA\'s words. DesiredWithinRange and WithinTolerance are quiet; Stabilized and Limit mean that behavior held a change back; TooFewReplicas and TooManyReplicas are the bounds; MissingDataHeld waits for data.',
        queries: [query(`sum by (reason) (increase(cloudpulse_scaler_decisions_total{${rule}}[$__rate_interval])) > 0`, '{{reason}}')],
        overrides: [
          named('WithinTolerance', { color: fixed('green') }), named('DesiredWithinRange', { color: fixed('blue') }),
          named('MissingDataHeld', { color: fixed('red') }), named('FailedGetScale', { color: fixed('dark-red') }),
        ],
      })],
      [12, bars({
        title: 'Replica-hours in the range', decimals: 2, timeFrom: null, color: { mode: 'palette-classic' }, min: 0,
        description: 'What the target had, and what it would have had if it followed one of these alone. In mode observe, "had" less "the rule wants" is what the rule would have saved; below zero, what it would have added to be ready in time.',
        queries: [
          now(hours(one('cloudpulse_scaler_current_replicas')), 'had'),
          now(hours(one('cloudpulse_scaler_desired_replicas')), 'the rule wants'),
          now(hours(one('cloudpulse_scaler_recommended_replicas', ',source="reactive"')), 'for the load alone'),
          now(hours(one('cloudpulse_scaler_recommended_replicas', ',source="forecast"')), 'for the forecast alone'),
          now(hours(one('cloudpulse_scaler_bound_replicas', ',bound="max"')), 'always the most'),
        ],
        overrides: [
          named('had', { color: fixed('green') }), named('the rule wants', { color: fixed('blue') }), named('for the load alone', { color: fixed('super-light-blue') }),
          named('for the forecast alone', { color: fixed('orange') }), named('always the most', { color: fixed('red') }),
        ],
      })],
    ]],
    [7, [
      [8, lines({
        title: 'Age of the readings', unit: 's', min: 0, noValue: 'No reading',
        description: 'How old load and forecast were at each decision. A gap is a reading that was missing.',
        queries: [query(`max by (metric, input) (cloudpulse_scaler_metric_age_seconds{${rule}})`, '{{metric}}: {{input}}')],
      })],
      [8, lines({
        title: 'Faults', bars: true, min: 0, decimals: 0, noValue: 'No fault in this range', calcs: ['sum'], maxDataPoints: 90,
        description: 'Readings that were not fresh and targets that failed, by reason; and requests to scale by hand.',
        queries: [
          query(`sum by (reason) (increase(cloudpulse_scaler_rule_errors_total{${rule}}[$__rate_interval])) > 0`, '{{reason}}'),
          query(`sum by (result) (increase(cloudpulse_scaler_scaled_by_hand_total{${rule}}[$__rate_interval])) > 0`, 'by hand: {{result}}'),
        ],
      })],
      [8, lines({
        title: 'From reading to scaling', unit: 's', min: 0, calcs: ['lastNotNull'],
        description: 'Duration of a turn over all rules: half of them are quicker than the lower line, all but one in a hundred than the upper one.',
        queries: [
          query('histogram_quantile(0.99, sum by (le) (rate(cloudpulse_scaler_turn_duration_seconds_bucket[$__rate_interval])))', '99 %'),
          query('histogram_quantile(0.5, sum by (le) (rate(cloudpulse_scaler_turn_duration_seconds_bucket[$__rate_interval])))', '50 %'),
        ],
      })],
    ]],
  ],
});
