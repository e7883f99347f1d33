// Prometheus' HTTP API, as far as Grafana's data source uses it.

/** A request that got no answer at all is made again: a browser drops all when an interface of the machine comes or goes. */
async function fetchAgain(address, options) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await fetch(address, options);
    } catch (error) {
      if (attempt === 5) throw error;
      await new Promise((done) => setTimeout(done, 200 * attempt));
    }
  }
}

export class Prometheus {
  constructor(base) {
    this.base = base;
  }

  async #asked(answer, path, allowed = () => false) {
    let body;
    try {
      body = await answer.json();
    } catch {
      throw new Error(`${path} answered ${answer.status} without JSON`);
    }
    if (body.status !== 'success') throw new Error(`${body.errorType}: ${body.error}`);
    // A remote read that fails is a warning beside a part of the answer.
    const warnings = (body.warnings ?? []).filter((text) => !allowed(text));
    if (warnings.length) throw new Error(`warnings: ${warnings.join('; ')}`);
    return body.data;
  }

  async #post(path, parameters) {
    return this.#asked(await fetchAgain(this.base + path, { method: 'POST', body: new URLSearchParams(parameters) }), path);
  }

  /** Series at one moment (Unix milliseconds). */
  async query(expr, time) {
    const data = await this.#post('/api/v1/query', { query: expr, time: String(time / 1000) });
    if (data.resultType === 'scalar') return [{ metric: {}, value: data.result }];
    return data.result;
  }

  /** Series over a range, at multiples of the step, as Grafana aligns them. */
  async queryRange(expr, { from, to }, step) {
    const at = (time) => String((Math.floor(time / step) * step) / 1000);
    const data = await this.#post('/api/v1/query_range', { query: expr, start: at(from), end: at(to), step: String(step / 1000) });
    return data.result;
  }

  async labelValues(label, match, { from, to }) {
    const parameters = new URLSearchParams({ start: String(from / 1000), end: String(to / 1000) });
    if (match) parameters.set('match[]', match);
    const path = `/api/v1/label/${label}/values`;
    // Remote read knows samples only; for labels Prometheus says so and goes by its own.
    return this.#asked(await fetchAgain(`${this.base}${path}?${parameters}`), path, (text) => text === 'not implemented');
  }
}
