// Answers of Prometheus in, Grafana's data frames out: names, tables and times as Grafana's Prometheus data source makes them.
import { type DataFrame, FieldType, toDataFrame } from '@grafana/data';

import { seriesName } from '../lib/dashboard.mjs';

type Series = { metric: Record<string, string>; values: Array<[number, string]> };
export type Answer = {
  target: { refId: string; instant?: boolean; format?: string };
  expr: string;
  legend: string;
  step: number;
  result: Series[];
};

const number = (text: string) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));

/** One frame for each series. Missing samples are null, so that lines break there. */
function seriesFrames({ target, expr, legend, step, result }: Answer): DataFrame[] {
  return result.map(({ metric, values }) => {
    const times: number[] = [];
    const numbers: Array<number | null> = [];
    values.forEach(([time, text], i) => {
      if (i > 0 && time - values[i - 1][0] > (step / 1000) * 1.5) {
        times.push(values[i - 1][0] * 1000 + step);
        numbers.push(null);
      }
      times.push(time * 1000);
      numbers.push(number(text));
    });
    const name = seriesName(legend, metric, expr);
    return toDataFrame({
      refId: target.refId,
      name,
      fields: [
        { name: 'Time', type: FieldType.time, values: times, config: { interval: step } },
        { name: 'Value', type: FieldType.number, labels: metric, values: numbers, config: { displayNameFromDS: name } },
      ],
    });
  });
}

/** One frame with a column for each label. */
function tableFrame({ target, result }: Answer, count: number): DataFrame[] {
  if (result.length === 0) return [];
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const last = result.map(({ values }) => values[values.length - 1]);
  return [
    toDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: last.map(([time]) => time * 1000) },
        ...labels.map((label) => ({ name: label, type: FieldType.string, values: result.map(({ metric }) => metric[label] ?? '') })),
        { name: count > 1 ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: last.map(([, text]) => number(text)) },
      ],
    }),
  ];
}

export function framesOf(answers: Answer[]): DataFrame[] {
  const tables = answers.filter(({ target }) => target.format === 'table').length;
  return answers.flatMap((answer) => (answer.target.format === 'table' ? tableFrame(answer, tables) : seriesFrames(answer)));
}

/** Whether there is any number to draw. */
export function hasNumbers(frames: DataFrame[]): boolean {
  return frames.some((frame) => frame.fields.some((field) => field.type === FieldType.number && field.values.some((one) => one !== null && !Number.isNaN(one))));
}
