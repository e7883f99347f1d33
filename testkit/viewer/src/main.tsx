// Draws the dashboard that the address names: ?dashboard=overview&theme=light&var-rule=web&from=now-6h. What came of it is in
// `window.outcome` once every panel has said its own.
import { createTheme, type GrafanaTheme2 } from '@grafana/data';
import { GlobalStyles, PortalContainer, ThemeContext } from '@grafana/ui';
import { useEffect, useMemo, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';

import { interpolate, panelsOf, rangeOf, resolve, spokenValue } from '../lib/dashboard.mjs';
import { Prometheus } from '../lib/prometheus.mjs';
import { schemaVersion } from './grafana';
import { type Mark, type Outcome, Panel } from './Panel';

const parameters = new URLSearchParams(location.search);
const theme = createTheme({ colors: { mode: parameters.get('theme') === 'light' ? 'light' : 'dark' } });
const chosen = Object.fromEntries([...parameters].filter(([name]) => name.startsWith('var-')).map(([name, value]) => [name.slice(4), value]));
const prometheus = new Prometheus('');

// Grafana's grid.
const [cell, gap, side] = [30, 8, 16];

declare global {
  interface Window {
    outcome?: { problems: string[]; panels: Outcome[]; height: number };
  }
}

type Ready = { dashboard: any; values: Record<string, any>; range: { from: number; to: number }; now: number; marks: Mark[] };

async function prepare(): Promise<Ready> {
  const answer = await fetch(`/dashboards/${parameters.get('dashboard')}.json`);
  if (!answer.ok) throw new Error(`no dashboard ${parameters.get('dashboard')}`);
  const dashboard = await answer.json();
  if (dashboard.schemaVersion !== schemaVersion) throw new Error(`schemaVersion is ${dashboard.schemaVersion}, that of Grafana's library ${schemaVersion}`);
  const now = Date.now();
  dashboard.time.from = parameters.get('from') ?? dashboard.time.from;
  const range = rangeOf(dashboard.time, now);
  const values = await resolve(dashboard, prometheus, range, chosen);
  const marks: Mark[] = [];
  for (const annotation of dashboard.annotations.list) {
    const series = await prometheus.queryRange(interpolate(annotation.expr, values), range, 60_000);
    const color = theme.visualization.getColorByName(annotation.iconColor);
    for (const { values: samples } of series) {
      samples.forEach(([time]: [number], i: number) => {
        if (i === 0 || time - samples[i - 1][0] > 60) marks.push({ time: time * 1000, color });
      });
    }
  }
  return { dashboard, values, range, now, marks };
}

function Header({ dashboard, values }: Ready) {
  const variables = dashboard.templating.list.filter((variable: any) => variable.hide !== 2);
  return (
    <header>
      <h1>{dashboard.title}</h1>
      <div className="bar">
        {variables.map((variable: any) => (
          <span className="variable" key={variable.name}>
            <b>{variable.label}</b>
            {variable.type === 'datasource' ? 'Prometheus' : spokenValue(variable, values[variable.name])}
          </span>
        ))}
        <span className="links">
          {dashboard.links.map((link: any) => (
            <a key={link.url} href="#">{link.title}</a>
          ))}
          <span className="variable">{`${dashboard.time.from} to ${dashboard.time.to}`}</span>
        </span>
      </div>
    </header>
  );
}

function Dashboard(ready: Ready) {
  const { dashboard, ...rest } = ready;
  const panels = panelsOf(dashboard);
  const outcomes = useRef<Outcome[]>([]);
  const column = (document.documentElement.clientWidth - 2 * side + gap) / 24;
  const bottom = Math.max(...panels.map(({ gridPos }: any) => gridPos.y + gridPos.h)) * (cell + gap);
  const report = (outcome: Outcome) => {
    outcomes.current.push(outcome);
    if (outcomes.current.length === panels.length) {
      window.outcome = { problems: [], panels: outcomes.current, height: document.querySelector('header')!.offsetHeight + bottom + side };
    }
  };
  return (
    <>
      <Header {...ready} />
      <main style={{ position: 'relative', height: bottom }}>
        {panels.map((panel: any) => {
          const { x, y, w, h } = panel.gridPos;
          return (
            <section key={panel.id} style={{ position: 'absolute', left: side + x * column, top: y * (cell + gap) }}>
              <Panel panel={panel} prometheus={prometheus} theme={theme} width={Math.floor(w * column - gap)} height={h * (cell + gap) - gap} report={report} {...rest} />
            </section>
          );
        })}
      </main>
    </>
  );
}

const styles = ({ colors, typography }: GrafanaTheme2) => `
  body { margin: 0; background: ${colors.background.canvas}; color: ${colors.text.primary}; overflow: hidden auto; }
  header { padding: 10px ${side}px 8px; }
  header h1 { font-size: 16px; margin: 0 0 8px; }
  .bar { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
  .variable { border: 1px solid ${colors.border.medium}; border-radius: 2px; padding: 3px 8px; font-size: 12px; background: ${colors.background.primary}; max-width: 420px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .variable b { color: ${colors.text.secondary}; font-weight: ${typography.fontWeightMedium}; margin-right: 8px; }
  .links { margin-left: auto; display: flex; gap: 14px; align-items: center; font-size: 12px; }
  .links a { color: ${colors.text.link}; }
`;

function App() {
  const [ready, setReady] = useState<Ready>();
  const [error, setError] = useState('');
  const text = useMemo(() => styles(theme), []);
  useEffect(() => {
    prepare().then(setReady, (failure) => {
      setError(failure.message);
      window.outcome = { problems: [failure.message], panels: [], height: 200 };
    });
  }, []);
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <style>{text}</style>
      {error && <pre>{error}</pre>}
      {ready && <Dashboard {...ready} />}
      <PortalContainer />
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')!).render(<App />);
