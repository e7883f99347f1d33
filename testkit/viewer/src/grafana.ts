// What Grafana's application sets up for its libraries, and what they can tell of a dashboard: known units, the schema.
import {
  type DataTransformerInfo, FieldConfigOptionsRegistry, getValueFormats, standardTransformers, standardTransformersRegistry,
} from '@grafana/data';
import { defaultDashboard } from '@grafana/schema';

const standard = ['unit', 'decimals', 'min', 'max', 'displayName', 'noValue', 'color', 'thresholds', 'mappings', 'links'];
const custom = [
  'drawStyle', 'lineInterpolation', 'lineWidth', 'lineStyle', 'fillOpacity', 'fillBelowTo', 'gradientMode', 'showPoints', 'spanNulls',
  'stacking', 'axisPlacement', 'axisLabel', 'axisSoftMin', 'axisSoftMax', 'scaleDistribution', 'hideFrom', 'thresholdsStyle', 'align', 'cellOptions', 'inspect',
  'filterable', 'width', 'minWidth',
];

/** The properties that a panel may set, which Grafana's panels register. */
export const registry = new FieldConfigOptionsRegistry(() =>
  [...standard.map((id) => [id, id, false] as const), ...custom.map((id) => [`custom.${id}`, id, true] as const)].map(
    ([id, path, isCustom]) => ({ id, path, isCustom, name: id, process: (value: unknown) => value, shouldApply: () => true }) as never
  )
);

// Two names of one transformer are in the list.
const transformers = new Map(Object.values(standardTransformers).map((info) => [info.id, info as DataTransformerInfo]));
standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((info) => ({
    id: info.id, name: info.name, description: info.description, transformation: () => Promise.resolve(info), imageDark: '', imageLight: '',
  })) as never
);

const units = new Set(getValueFormats().flatMap((category) => category.submenu.map((unit) => unit.value)));

type Panel = { fieldConfig: Config; transformations?: Array<{ id: string }> };
type Config = { defaults: { unit?: string; custom?: object }; overrides: Array<{ properties: Array<{ id: string; value: unknown }> }> };

/** What Grafana would pass over in silence: a unit that it would write behind the number, what it would not apply. */
export function mistakes({ fieldConfig, transformations = [] }: Panel): string[] {
  const properties = fieldConfig.overrides.flatMap((override) => override.properties);
  const used = [fieldConfig.defaults.unit, ...properties.filter(({ id }) => id === 'unit').map(({ value }) => value as string)];
  const set = [
    ...Object.keys(fieldConfig.defaults).filter((id) => id !== 'custom'),
    ...Object.keys(fieldConfig.defaults.custom ?? {}).map((id) => `custom.${id}`),
    ...properties.map(({ id }) => id),
  ];
  return [
    ...used.filter((unit) => unit !== undefined && !units.has(unit)).map((unit) => `unit ${unit} is not known`),
    ...set.filter((id) => registry.getIfExists(id) === undefined).map((id) => `property ${id} is not known`),
    ...transformations.filter(({ id }) => !transformers.has(id as never)).map(({ id }) => `transformation ${id} is not known`),
  ];
}

export const schemaVersion = defaultDashboard.schemaVersion;
