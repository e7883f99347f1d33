#!/usr/bin/env python3
"""Forecasts series with Prophet, statsforecast's models and Fracast-0: the peers of the accuracy benchmark.

    peers_python.py --request request.jsonl > forecasts.csv

In: one JSON object per line and series. `series`, its name; `csv`, a file of `timestamp,value` (Unix seconds, a header line,
missing samples are absent rows); `start` and `step_seconds`, the first point and the distance of the grid that the samples are
put on; `origins`, Unix seconds on that grid; `horizon_seconds`, a list.

Out: CSV with a header line, `series,origin,horizon_seconds,model,quantile,value,cpu_seconds`, in the order of the request. The
value of quantile 0.5 is the model's point forecast; the others are the ends of its own 80, 90 and 95 % prediction intervals
and may be infinite where the model says so. `cpu_seconds` is what fit and forecast at that origin took together. A model that
fails at an origin has no rows there; how often that happened, and why, is on stderr, with the progress.

Each model is fitted anew at each origin, from the samples up to and including the origin alone, on one thread:

    prophet                   Prophet as it comes, the last 20161 points: two weeks at one minute, its least for a weekly season
    auto_ets                  AutoETS without season, the last 2016 points
    auto_arima                AutoARIMA without season, p <= 4 and q <= 3, the last 1200 points
    dynamic_optimized_theta   DynamicOptimizedTheta without season, the last 600 points
    mstl                      MSTL with the day as season and AutoETS for the rest, the last 4032 points or three days
    fracast                   Fracast-0 as its package brings it, not fitted: the last 2048 points, all that it looks at

A day is 288 points or more, too many for the season of the others; the lengths keep a fit within seconds. So does MSTL's loess,
evaluated at every tenth of a day and joined by lines, which is R's default. Gaps are left out for Prophet, which wants them so,
and filled by straight lines for statsforecast, which knows none. Fracast-0 knows gaps, and no quantile beyond 0.1 and 0.9: its
wider intervals continue those by the tails of a normal distribution. Models whose package is not installed are left out.

What was fitted once is kept under `--cache`, one file a fit, by the content of the CSV file, the grid, the origin, the
horizons, the model's settings and the package's version.
"""

import argparse
import collections
import csv
import functools
import hashlib
import json
import math
import multiprocessing
import os
import pathlib
import statistics
import sys
import tempfile
import warnings
from importlib.metadata import PackageNotFoundError, version

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is loaded

HEADER = ["series", "origin", "horizon_seconds", "model", "quantile", "value", "cpu_seconds"]
# Level of an interval in percent, and the quantiles at its ends.
INTERVALS = {80: (0.1, 0.9), 90: (0.05, 0.95), 95: (0.025, 0.975)}
POINT = 0.5
DAY_SECONDS = 86_400
PROPHET_POINTS = 14 * 1440 + 1


def day_points(step):
    return round(DAY_SECONDS / step)


def filled(history, longest):
    """Returns the last `longest` points, gaps filled by straight lines; before the first sample, by its value."""
    import numpy as np

    known = np.flatnonzero(np.isfinite(history))
    return np.interp(np.arange(len(history)), known, history[known])[-longest:]


def prophet(history, start, step, steps, seed):
    """Returns {quantile: values 1 to `steps` ahead}. The intervals are Prophet's: quantiles of its 1000 simulated paths."""
    import numpy as np
    import pandas
    from prophet import Prophet

    # Prophet's samples come from numpy's global generator.
    np.random.seed(seed)
    skipped = max(len(history) - PROPHET_POINTS, 0)
    known = skipped + np.flatnonzero(np.isfinite(history[skipped:]))
    model = Prophet()
    model.fit(pandas.DataFrame({"ds": pandas.to_datetime(start + step * known, unit="s"), "y": history[known]}))
    ahead = start + step * (len(history) + np.arange(steps))
    future = pandas.DataFrame({"ds": pandas.to_datetime(ahead, unit="s")})
    quantiles = [quantile for ends in INTERVALS.values() for quantile in ends]
    paths = model.predictive_samples(future)["yhat"]
    answer = dict(zip(quantiles, np.quantile(paths, quantiles, axis=1)))
    return {POINT: model.predict(future)["yhat"].to_numpy(), **answer}


def statsforecast(new_model, longest):
    """Returns a function like `prophet` above for a model of statsforecast."""

    def forecast(history, start, step, steps, seed):
        import numpy as np

        # DynamicOptimizedTheta simulates its intervals, with numpy's global generator.
        np.random.seed(seed)
        values = filled(history, longest(step) if callable(longest) else longest)
        answer = new_model(step, len(values)).forecast(values, steps, level=list(INTERVALS))
        quantiles = {POINT: answer["mean"]}
        for level, (lower, upper) in INTERVALS.items():
            quantiles[lower] = answer[f"lo-{level}"]
            quantiles[upper] = answer[f"hi-{level}"]
        return quantiles

    return forecast


def auto_ets(step, length):
    from statsforecast.models import AutoETS

    return AutoETS(season_length=1)


def auto_arima(step, length):
    from statsforecast.models import AutoARIMA

    return AutoARIMA(season_length=1, max_p=4, max_q=3)


def theta(step, length):
    from statsforecast.models import DynamicOptimizedTheta

    return DynamicOptimizedTheta(season_length=1)


def mstl(step, length):
    from statsforecast.models import MSTL, AutoETS

    day = day_points(step)
    if length < 2 * day:
        raise ValueError("fewer than two days of history")
    jump = math.ceil(day / 10)
    stl = {"trend_jump": jump, "low_pass_jump": jump}
    return MSTL(season_length=day, trend_forecaster=AutoETS(model="ZZN"), stl_kwargs=stl)


def fracast(history, start, step, steps, seed):
    import numpy as np

    model = fracast_model()
    answer = model.forecast(history[-model.context_length :], horizon=steps)
    known = dict(zip(model.quantiles, np.asarray(answer, float).T))
    median, quantiles = known[POINT], {POINT: known[POINT]}
    normal, edge = statistics.NormalDist(), {True: 0.1, False: 0.9}
    for quantile in (quantile for ends in INTERVALS.values() for quantile in ends):
        near = edge[quantile < POINT]
        stretch = normal.inv_cdf(quantile) / normal.inv_cdf(near)
        quantiles[quantile] = median + stretch * (known[near] - median)
    return quantiles


@functools.cache
def fracast_model():
    import torch
    from fracast import FracastModel

    torch.set_num_threads(1)
    return FracastModel.from_pretrained(weights="fp32")


def installed(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# Name: package, what the cache must know of the settings, function.
MODELS = {
    "prophet": ("prophet", f"{PROPHET_POINTS} points", prophet),
    "auto_ets": ("statsforecast", "2016 points", statsforecast(auto_ets, 2016)),
    "auto_arima": ("statsforecast", "1200 points, p <= 4, q <= 3", statsforecast(auto_arima, 1200)),
    "dynamic_optimized_theta": ("statsforecast", "600 points", statsforecast(theta, 600)),
    "mstl": (
        "statsforecast",
        "day, 4032 points or 3 days, jump of a tenth",
        statsforecast(mstl, lambda step: max(4032, 3 * day_points(step))),
    ),
    "fracast": ("fracast", "fp32", fracast),
}


def read_grid(path, start, step, last):
    """Returns the values at start, start + step, ... last; NaN where no sample is. Of several at one point the last wins."""
    import numpy as np

    values = np.full(round((last - start) / step) + 1, np.nan)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            index = math.floor((float(row["timestamp"]) - start) / step + 0.5)
            if 0 <= index < len(values):
                value = float(row["value"])
                values[index] = value if math.isfinite(value) else np.nan
    return values


def cpu_seconds():
    """Returns the processor time of this process and of those it waited for: Prophet's optimizer is one of its own."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def steps_of(horizon, step):
    """Returns how many steps cover a horizon, at least 1, rounded to the nearest."""
    return max((horizon + step // 2) // step, 1)


@functools.cache
def warm_up(name):
    """Loads what a first fit loads, so that it is not taken for the time of a fit."""
    import numpy as np

    history = 10 + np.sin(np.arange(700) * 2 * np.pi / 24) + np.random.default_rng(1).normal(0, 0.1, 700)
    MODELS[name][2](history, 0, 3600, 4, 1)


def fit(name, history, request, seed):
    """Returns the cached form of one fit: `cpu_seconds` and `rows` of (horizon_seconds, quantile, value), or `error`."""
    step = request["step_seconds"]
    steps = {horizon: steps_of(horizon, step) for horizon in request["horizon_seconds"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warm_up(name)
        started = cpu_seconds()
        try:
            answer = MODELS[name][2](history, request["start"], step, max(steps.values()), seed)
            rows = [
                (horizon, quantile, float(values[ahead - 1]))
                for horizon, ahead in steps.items()
                for quantile, values in sorted(answer.items())
            ]
            if not all(math.isfinite(value) for _, quantile, value in rows if quantile == POINT):
                raise ValueError("the forecast is not finite")
        except Exception as error:  # the peer's failure is a result
            return {"error": f"{type(error).__name__}: {error}"[:200]}
        return {"cpu_seconds": round(cpu_seconds() - started, 3), "rows": rows}


def cached(folder, key, make):
    """Returns the JSON value kept under `key` and whether it was there; makes and keeps it where it was not."""
    path = folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"
    try:
        return json.loads(path.read_text()), True
    except FileNotFoundError:
        value = make()
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part", delete=False) as file:
        json.dump(value, file)
    os.replace(file.name, path)  # never half a file, whenever this is ended
    return value, False


def forecast(job):
    """Returns (series, rows of the output, {model: [cpu seconds]}, {(model, error): count}, fits taken from the cache)."""
    request, models, folder = job
    content = hashlib.sha256(pathlib.Path(request["csv"]).read_bytes()).hexdigest()
    start, step = request["start"], request["step_seconds"]

    @functools.cache  # not read at all where everything is cached
    def grid():
        return read_grid(request["csv"], start, step, max(request["origins"]))

    rows, seconds, errors, found = [], collections.defaultdict(list), collections.Counter(), 0
    for origin in request["origins"]:
        for name in models:
            package, settings, _ = MODELS[name]
            key = [content, start, step, origin, request["horizon_seconds"], name, settings, version(package)]
            seed = origin % 2**32
            history = lambda: grid()[: (origin - start) // step + 1]  # noqa: E731
            answer, was_there = cached(folder, key, lambda: fit(name, history(), request, seed))
            found += was_there
            if "error" in answer:
                errors[name, answer["error"]] += 1
                continue
            seconds[name].append(answer["cpu_seconds"])
            for horizon, quantile, value in answer["rows"]:
                rows.append([request["series"], origin, horizon, name, quantile, repr(value), answer["cpu_seconds"]])
    return request["series"], rows, dict(seconds), errors, found


def start_worker(folder):
    """Keeps notes of each fit from stderr, and temporary files, which a worker does not delete at its end, to one folder."""
    import logging

    tempfile.tempdir = folder
    logging.disable(logging.WARNING)  # Stan's start and end, Prophet's choice of seasons
    logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)  # it logs an error where plotly is missing


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--request", metavar="FILE", required=True, help="what to forecast, one JSON object per line")
    present = [name for name, (package, *_) in MODELS.items() if installed(package)]
    parser.add_argument("--models", default=",".join(present), help="comma-separated (default: those installed, %(default)s)")
    parser.add_argument("--jobs", type=positive, default=1, help="series forecast at the same time (default: %(default)s)")
    parser.add_argument("--cache", metavar="DIR", type=pathlib.Path, default=root / "target/bench/peers-cache")
    args = parser.parse_args()
    models = args.models.split(",")
    if unknown := set(models) - set(MODELS):
        parser.error(f"unknown models: {', '.join(sorted(unknown))}")
    with open(args.request) as file:
        requests = [json.loads(line) for line in file if line.strip()]
    args.cache.mkdir(parents=True, exist_ok=True)
    jobs = [(request, models, args.cache) for request in requests if request["origins"]]

    output = csv.writer(sys.stdout, lineterminator="\n")
    output.writerow(HEADER)
    seconds, errors = collections.defaultdict(list), collections.Counter()
    with tempfile.TemporaryDirectory() as folder, multiprocessing.Pool(args.jobs, start_worker, [folder]) as pool:
        for done, answer in enumerate(pool.imap(forecast, jobs), 1):
            series, rows, fit_seconds, failed, found = answer
            output.writerows(rows)
            errors += failed
            for name, values in fit_seconds.items():
                seconds[name] += values
            spent = sum(map(sum, fit_seconds.values()))
            fits = sum(map(len, fit_seconds.values())) + failed.total()
            print(f"{done}/{len(jobs)} {series}: {fits} fits, {spent:.1f} s, {found} of them cached", file=sys.stderr)
    for name in models:
        failures = {error: count for (model, error), count in errors.items() if model == name}
        middle = f"{statistics.median(seconds[name]):.2f}" if seconds[name] else "-"
        package = MODELS[name][0]
        print(
            f"{name} ({package} {version(package)}): {len(seconds[name])} fits of {middle} s in the middle, "
            f"{sum(failures.values())} failed",
            file=sys.stderr,
        )
        for error, count in failures.items():
            print(f"    {count} times {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
