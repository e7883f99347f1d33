// What is shown of the demonstration, and what it has nothing of.

/** Variables that are chosen, by dashboard; `from` is the start of the range. */
export const choices = {
  overview: { alerts: '.*' },
  alerts: { alerts: '.*', from: 'now-1h' },
  forecasts: { forecast: 'shop-requests', limit: '150' },
  quality: { from: 'now-1h' },
  scaling: { forecast: 'shop-requests' },
};

/** Panels that may be empty there, and why. All others must have data. */
export const mayBeEmpty = {
  'overview: Max replicas reached in': 'the demonstration stays below its maximum',
  'overview: Alerts that fire': 'nothing has to fire',
  'alerts: Active alerts': 'nothing has to fire',
  'alerts: Firing': 'nothing has to fire',
  'alerts: Pending': 'nothing has to be pending',
  'forecasts: Passes 150 in': 'the load is below the limit before and after the rush',
  'forecasts: Passes it at worst in': 'the same',
  'quality: Breaches of limits': 'no forecast of the demonstration has a limit',
  'scaling: Max reached in': 'the demonstration stays below its maximum',
  'scaling: A replica takes': 'without a Docker engine no replica is started',
  'scaling: Faults': 'nothing has to fail',
};

/** Returns what is wrong with an empty panel, or nothing. */
export function emptiness(dashboard, title, panel) {
  if (!(`${dashboard}: ${title}` in mayBeEmpty)) return 'No data';
  return panel.fieldConfig.defaults.noValue === undefined ? 'may be empty, and does not say what that means (noValue)' : undefined;
}
