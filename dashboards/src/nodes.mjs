// Machines: how they are, and how they will be.
import { band, dashboard, forecast, gauge, lines, measured, query, rows, steps, table, to, untilNow, variable } from './style.mjs';

const node = 'job=~"$job",instance=~"$instance"';
const all = 'job=~"$job"';
const full = steps('green', [0.75, 'orange'], [0.9, 'red']);
const busy = (of) => `1 - avg by (instance) (sum without (mode) (rate(node_cpu_seconds_total{${of},mode=~"idle|iowait|steal"}[5m])))`;
const memory = (of) => `1 - max by (instance) (node_memory_MemAvailable_bytes{${of}} / node_memory_MemTotal_bytes{${of}})`;
const filesystems = (of) => `${of},fstype!~"tmpfs|overlay|squashfs|ramfs|rootfs"`;
const disk = (of) => `1 - min by (instance) (node_filesystem_avail_bytes{${filesystems(of)}} / node_filesystem_size_bytes{${filesystems(of)}})`;
const bytes = (direction, of) =>
  `sum by (instance) (rate(node_network_${direction}_bytes_total{${of},device!~"lo|veth.*|docker.*|br-.*|cali.*|flannel.*"}[5m]))`;
const ahead = (name) => `max by (instance) (cloudpulse_forecast{forecast="${name}",${all},horizon="15m",quantile=~"0.5|0.9",model="ensemble"})`;

/** What was measured, and the curve with its band: up to now what was said a quarter of an hour before. */
function future(title, description, unit, name, actual, more = {}) {
  const curve = (aggregate, quantile = '') =>
    `${aggregate}(cloudpulse_forecast_path{forecast="${name}",${node}${quantile}}) or ${aggregate}(cloudpulse_forecast{forecast="${name}",${node},horizon="15m",model="ensemble"${quantile}} offset 15m)`;
  return lines({
    title, unit, min: 0, ...more,
    description: `${description} Blue is measured; orange is the forecast: from now on the curve, before that what was said a quarter of an hour earlier. The band ends at the highest published quantile.`,
    queries: [
      query(curve('max'), 'upper'),
      query(curve('min'), 'lower'),
      query(curve('max', ',quantile="0.5"'), 'forecast'),
      query(untilNow(actual), 'measured'),
    ],
    overrides: [...band('upper', 'lower'), forecast('forecast'), measured('measured')],
  });
}

export default dashboard({
  uid: 'cloudpulse-nodes',
  description: 'All machines as they are and as they are expected to be in 15 minutes; one of them with its curves into the future.',
  time: { from: 'now-1h', to: 'now+15m' },
  variables: [
    variable.many('job', 'Job', 'label_values(node_boot_time_seconds, job)'),
    variable.query('instance', 'Instance', 'label_values(node_boot_time_seconds{job=~"$job"}, instance)'),
  ],
  rows: [
    [6, [
      [24, table({
        title: 'All machines, now and in 15 minutes', unit: 'short', noValue: 'No machine is scraped',
        description: 'Now: what was measured. In 15 min: what is passed with a chance of one in ten (the median where no more is known yet). The disk is the fullest file system. An instance shows its curves below.',
        queries: [
          rows(busy(all)), rows(ahead('node-cpu')), rows(memory(all)), rows(ahead('node-memory')), rows(disk(all)), rows(ahead('node-disk')),
          rows(`max by (instance) (node_load1{${all}})`), rows(ahead('node-load')), rows(bytes('receive', all)), rows(bytes('transmit', all)),
          rows(`time() - max by (instance) (node_boot_time_seconds{${all}})`),
        ],
        columns: [
          ['instance', 'Instance', to('cloudpulse-nodes', 'Show its curves', { instance: '${__value.raw:percentencode}' })],
          ['Value #A', 'CPU', { ...gauge(full), 'custom.width': 108 }], ['Value #B', 'CPU in 15 min', { ...gauge(full), 'custom.width': 140 }],
          ['Value #C', 'Memory', { ...gauge(full), 'custom.width': 108 }], ['Value #D', 'Memory in 15 min', { ...gauge(full), 'custom.width': 140 }],
          ['Value #E', 'Disk', { ...gauge(full), 'custom.width': 108 }], ['Value #F', 'Disk in 15 min', { ...gauge(full), 'custom.width': 140 }],
          ['Value #G', 'Load', { decimals: 1, 'custom.width': 70 }], ['Value #H', 'Load in 15 min', { decimals: 1, 'custom.width': 115 }],
          ['Value #I', 'Received', { unit: 'Bps', decimals: 1, 'custom.width': 105 }], ['Value #J', 'Sent', { unit: 'Bps', decimals: 1, 'custom.width': 105 }],
          ['Value #K', 'Up for', { unit: 's', decimals: 0, 'custom.width': 90 }],
        ],
        sortBy: ['CPU in 15 min', 'desc'],
      })],
    ]],
    [8, [
      [8, future('CPU', 'Share of time that is not idle, over all cores.', 'percentunit', 'node-cpu', busy(node), { max: 1 })],
      [8, future('Memory', 'Share of memory that is not available to new processes.', 'percentunit', 'node-memory', memory(node), { max: 1 })],
      [8, future('Load', 'Runnable and waiting processes, mean over a minute.', 'short', 'node-load', `max by (instance) (node_load1{${node}})`)],
    ]],
    [8, [
      [8, future('Received', 'Bytes received, all interfaces but those of containers.', 'Bps', 'node-network-receive', bytes('receive', node))],
      [8, future('Sent', 'Bytes sent, all interfaces but those of containers.', 'Bps', 'node-network-transmit', bytes('transmit', node))],
      [8, future('Fullest file system', 'Share that is used of the fullest file system.', 'percentunit', 'node-disk', disk(node), { max: 1 })],
    ]],
  ],
});
