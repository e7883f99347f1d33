// One panel: asks, applies what the dashboard says of fields, draws, and tells what came of it.
import {
  applyFieldOverrides, cacheFieldDisplayNames, type DataFrame, dateTime, type FieldDisplay, getDisplayValueAlignmentFactors, getFieldDisplayValues, type GrafanaTheme2,
  LoadingState, type TimeRange, transformDataFrame, VizOrientation,
} from '@grafana/data';
import { BarGauge, BigValue, PanelChrome, TimeSeries, type UPlotConfigBuilder, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { type ReactNode, useEffect, useState } from 'react';
import { lastValueFrom } from 'rxjs';

import { ask, interpolate, panelRange } from '../lib/dashboard.mjs';
import { framesOf, hasNumbers } from './frames';
import { mistakes, registry } from './grafana';

export type Mark = { time: number; color: string };
export type Outcome = { title: string; problems: string[]; empty: boolean; json: unknown };
type Props = {
  // The JSON of a panel; its shape depends on its type.
  panel: any;
  prometheus: unknown;
  values: Record<string, unknown>;
  range: { from: number; to: number };
  now: number;
  marks: Mark[];
  theme: GrafanaTheme2;
  width: number;
  height: number;
  report: (outcome: Outcome) => void;
};

async function load({ panel, prometheus, values, range, now, theme, width }: Props): Promise<DataFrame[]> {
  const frames = framesOf(await ask(panel, prometheus, values, range, now, width));
  const transformed = panel.transformations ? await lastValueFrom(transformDataFrame(panel.transformations, frames)) : frames;
  const applied = applyFieldOverrides({
    data: transformed, theme, timeZone: 'browser', fieldConfigRegistry: registry, fieldConfig: panel.fieldConfig,
    replaceVariables: (text, scoped) => (text.includes('__') ? text : interpolate(text, { ...values, ...scoped })),
  });
  cacheFieldDisplayNames(applied);
  return applied;
}

export function Panel(props: Props) {
  const { panel, values, range, now, theme, width, height, report } = props;
  const [frames, setFrames] = useState<DataFrame[]>();
  const [error, setError] = useState('');
  const title = interpolate(panel.title, values);
  useEffect(() => {
    const problems = mistakes(panel);
    load(props).then(
      (loaded) => {
        setFrames(loaded);
        report({ title, problems, empty: !hasNumbers(loaded), json: panel });
      },
      (failure) => {
        setError(String(failure.message));
        report({ title, problems: [...problems, failure.message], empty: true, json: panel });
      }
    );
  }, []);
  const own = panelRange(panel, range, now);
  const timeRange = { from: dateTime(own.from), to: dateTime(own.to), raw: { from: dateTime(own.from), to: dateTime(own.to) } };
  return (
    <PanelChrome title={title} description={panel.description} width={width} height={height} loadingState={frames || error ? LoadingState.Done : LoadingState.Loading}>
      {(inner, innerHeight) => {
        if (error) return <pre style={{ whiteSpace: 'pre-wrap', color: theme.colors.error.text }}>{error}</pre>;
        if (!frames) return <span />;
        if (!hasNumbers(frames) && panel.type !== 'stat') {
          return <div style={{ display: 'grid', placeItems: 'center', height: '100%', color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
        }
        return draw({ ...props, frames, timeRange, width: inner, height: innerHeight });
      }}
    </PanelChrome>
  );
}

type Drawn = Props & { frames: DataFrame[]; timeRange: TimeRange };

function draw(drawn: Drawn): ReactNode {
  switch (drawn.panel.type) {
    case 'timeseries':
      return drawLines(drawn);
    case 'stat':
    case 'bargauge':
      return drawValues(drawn);
    case 'table':
      return drawTable(drawn);
    default:
      throw new Error(`panels of type ${drawn.panel.type} cannot be drawn here`);
  }
}

function drawLines({ panel, frames, timeRange, width, height, marks }: Drawn) {
  return (
    <TimeSeries frames={frames} width={width} height={height} timeRange={timeRange} timeZone="browser" legend={panel.options.legend}>
      {(builder) => {
        drawMarks(builder, marks);
        return null;
      }}
    </TimeSeries>
  );
}

/** Annotations: the plugin that draws them lies in Grafana's application. */
function drawMarks(builder: UPlotConfigBuilder, marks: Mark[]) {
  builder.addHook('draw', (plot) => {
    const { left, top, width, height } = plot.bbox;
    for (const { time, color } of marks) {
      const x = Math.round(plot.valToPos(time, 'x', true));
      if (x < left || x > left + width) continue;
      plot.ctx.save();
      plot.ctx.strokeStyle = color;
      plot.ctx.fillStyle = color;
      plot.ctx.setLineDash([4, 4]);
      plot.ctx.beginPath();
      plot.ctx.moveTo(x, top);
      plot.ctx.lineTo(x, top + height);
      plot.ctx.stroke();
      plot.ctx.beginPath();
      plot.ctx.moveTo(x - 4, top + height + 5);
      plot.ctx.lineTo(x + 4, top + height + 5);
      plot.ctx.lineTo(x, top + height);
      plot.ctx.fill();
      plot.ctx.restore();
    }
  });
}

function drawValues({ panel, frames, theme, width, height }: Drawn) {
  const { options, fieldConfig, type } = panel;
  const bars = type === 'bargauge';
  const values = () =>
    getFieldDisplayValues({
      fieldConfig, data: frames, reduceOptions: options.reduceOptions, replaceVariables: (text) => text, theme, timeZone: 'browser',
      sparkline: options.graphMode === 'area',
    });
  return (
    <VizRepeater<FieldDisplay, ReturnType<typeof getDisplayValueAlignmentFactors>>
      getValues={values} getAlignmentFactors={getDisplayValueAlignmentFactors} source={frames} width={width} height={height} renderCounter={1}
      orientation={bars ? VizOrientation.Horizontal : VizOrientation.Auto} autoGrid={!bars} itemSpacing={bars ? 8 : 3}
      minVizHeight={bars ? options.minVizHeight : undefined} maxVizHeight={bars ? options.maxVizHeight : undefined}
      renderValue={({ value, width: each, height: high, alignmentFactors, count }) =>
        bars ? (
          <BarGauge value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex ?? 0)} width={each} height={high}
            orientation={VizOrientation.Horizontal} displayMode={options.displayMode} showUnfilled={options.showUnfilled} valueDisplayMode={options.valueMode}
            namePlacement={options.namePlacement} alignmentFactors={alignmentFactors} text={options.text} theme={theme} />
        ) : (
          <BigValue value={value.display} sparkline={value.sparkline} width={each} height={high} colorMode={options.colorMode} graphMode={options.graphMode}
            justifyMode={options.justifyMode} textMode={options.textMode} alignmentFactors={alignmentFactors} count={count} theme={theme} />
        )
      }
    />
  );
}

function drawTable({ panel, frames, timeRange, width, height }: Drawn) {
  if (frames.length !== 1) throw new Error(`${panel.title}: ${frames.length} tables instead of one`);
  return <TableNG data={frames[0]} width={width} height={height} timeRange={timeRange} cellHeight={panel.options.cellHeight} sortBy={panel.options.sortBy} fieldConfig={panel.fieldConfig} />;
}
