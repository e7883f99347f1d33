#!/usr/bin/env python3
"""Fits Python Prophet to a series and says how long it took: the peer of the Prophet benchmark.

In: a CSV file of `timestamp,value` (Unix seconds, a header line, one row per sample, the step constant). For each size n the
first n rows are the history. Out: one JSON object per size and line on stdout; progress on stderr.

    prophet_python.py --csv series.csv --sizes 2000,10000 --repeats 3
    prophet_python.py --generate series.csv --points 10288      # writes the benchmark's own series

The model: linear trend with 25 changepoints (prior scale 0.05), daily season of order 4 and weekly season of order 3,
additive, no uncertainty samples. Only `fit` is timed; a small fit before warms the caches. One thread.

Fields: `n`; `step_seconds`; `algorithm`; `seconds`, one per repeat; `negative_log_posterior`, lower is better, up to a constant that
all solvers share, in Prophet's scaled units; `y_scale`; `sigma`, the noise in scaled units; `first_forecast_timestamp`; `yhat`,
the forecast of the next `--horizon` steps in the unit of the series; `versions`.
"""

import argparse
import csv
import json
import math
import os
import platform
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is loaded
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

CHANGEPOINTS = 25
CHANGEPOINT_PRIOR_SCALE = 0.05
DAILY_ORDER = 4
WEEKLY_ORDER = 3


def read_series(path):
    """Returns (timestamps, values). Refuses what a uniform grid cannot hold, rather than to time another problem."""
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    timestamps = [float(row["timestamp"]) for row in rows]
    values = [float(row["value"]) for row in rows]
    if not all(map(math.isfinite, values)):
        sys.exit(f"{path}: a value is not finite")
    steps = {b - a for a, b in zip(timestamps, timestamps[1:])}
    if len(steps) != 1 or min(steps) <= 0:
        sys.exit(f"{path}: the step is not constant: {sorted(steps)[:5]}")
    return timestamps, values


def generate(path, points, seed):
    """Writes a series: daily and weekly sine, a trend with random breaks, AR(1) noise, a floor at 0.1; 5-minute step."""
    import numpy as np

    rng = np.random.default_rng(seed)
    step = 300
    start = 1_700_000_100  # a multiple of the step
    day = np.arange(points) * step / 86_400
    season = 10 * np.sin(2 * np.pi * day) + 4 * np.sin(2 * np.pi * day / 7)
    slope_changes = np.where(rng.random(points) < 1 / 1000, rng.normal(0, 0.002, points), 0.0)
    trend = 40 + np.cumsum(np.cumsum(slope_changes))
    noise = np.empty(points)
    last = 0.0
    for i, innovation in enumerate(rng.normal(0, 2, points)):
        last = 0.7 * last + innovation
        noise[i] = last
    values = np.maximum(trend + season + noise, 0.1)
    with open(path, "w", newline="") as file:
        file.write("timestamp,value\n")
        file.writelines(f"{start + i * step},{value!r}\n" for i, value in enumerate(values.tolist()))


def negative_log_posterior(model):
    """Returns T ln s + RSS/(2s²) + k²/50 + m²/50 + Σ|δ|/τ + Σβ²/(2sd²) + 2s² at the fitted parameters, as Stan's model has it."""
    import numpy as np

    t = model.history["t"].to_numpy()
    y = model.history["y_scaled"].to_numpy()
    features, prior_scales, _, _ = model.make_all_seasonality_features(model.history)
    k, m, sigma = (float(np.ravel(model.params[name])[0]) for name in ("k", "m", "sigma_obs"))
    delta, beta = (np.ravel(model.params[name]) for name in ("delta", "beta"))
    hinges = np.maximum(t[:, None] - model.changepoints_t[None, :], 0)
    residual = y - (k * t + m + hinges @ delta + features.to_numpy() @ beta)
    return float(
        len(t) * math.log(sigma)
        + residual @ residual / (2 * sigma**2)
        + k**2 / 50
        + m**2 / 50
        + np.abs(delta).sum() / CHANGEPOINT_PRIOR_SCALE
        + (beta**2 / (2 * np.asarray(prior_scales) ** 2)).sum()
        + 2 * sigma**2
    )


def new_model():
    from prophet import Prophet

    return Prophet(
        growth="linear",
        n_changepoints=CHANGEPOINTS,
        changepoint_prior_scale=CHANGEPOINT_PRIOR_SCALE,
        daily_seasonality=DAILY_ORDER,
        weekly_seasonality=WEEKLY_ORDER,
        yearly_seasonality=False,
        seasonality_mode="additive",
        uncertainty_samples=0,
    )


def measure(timestamps, values, n, repeats, horizon, algorithm):
    """Returns the JSON object of one size."""
    import cmdstanpy
    import numpy
    import pandas
    import prophet

    step = timestamps[1] - timestamps[0]
    history = pandas.DataFrame({"ds": pandas.to_datetime(timestamps[:n], unit="s"), "y": values[:n]})
    options = {} if algorithm == "lbfgs" else {"algorithm": "Newton"}
    seconds = []
    for repeat in range(repeats):
        model = new_model()
        started = time.perf_counter()
        model.fit(history, **options)
        seconds.append(time.perf_counter() - started)
        print(f"n={n} repeat {repeat + 1}/{repeats}: {seconds[-1]:.3f} s", file=sys.stderr)
    first = timestamps[n - 1] + step
    future = pandas.DataFrame({"ds": pandas.to_datetime([first + i * step for i in range(horizon)], unit="s")})
    return {
        "n": n,
        "step_seconds": step,
        "algorithm": algorithm,
        "seconds": seconds,
        "negative_log_posterior": negative_log_posterior(model),
        "y_scale": float(model.y_scale),
        "sigma": float(numpy.ravel(model.params["sigma_obs"])[0]),
        "first_forecast_timestamp": first,
        "yhat": model.predict(future)["yhat"].tolist(),
        "versions": {
            "python": platform.python_version(),
            "prophet": prophet.__version__,
            "cmdstanpy": cmdstanpy.__version__,
            "numpy": numpy.__version__,
        },
    }


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--csv", metavar="FILE", help="read the series from this file and measure")
    source.add_argument("--generate", metavar="FILE", help="write the benchmark's own series to this file and stop")
    parser.add_argument("--points", type=positive, default=10_288, help="samples that --generate writes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of --generate (default: %(default)s)")
    parser.add_argument("--sizes", default="2000,10000", help="history lengths, comma-separated (default: %(default)s)")
    parser.add_argument("--repeats", type=positive, default=3, help="timed fits per size (default: %(default)s)")
    parser.add_argument("--horizon", type=positive, default=288, help="steps to forecast (default: %(default)s)")
    parser.add_argument(
        "--algorithm",
        choices=("lbfgs", "newton"),
        default="lbfgs",
        help="Stan's optimizer: lbfgs is Prophet's default, which stops early; newton converges and is far slower",
    )
    args = parser.parse_args()

    if args.generate:
        generate(args.generate, args.points, args.seed)
        return
    timestamps, values = read_series(args.csv)
    sizes = [positive(size) for size in args.sizes.split(",")]
    if max(sizes) > len(values):
        sys.exit(f"{args.csv}: {len(values)} rows, {max(sizes)} are needed")

    import logging

    logging.disable(logging.INFO)  # cmdstanpy's note of each start; warnings, such as a change of optimizer, stay
    logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)  # it logs an error where plotly is missing
    import pandas

    warm = pandas.DataFrame({"ds": pandas.to_datetime(timestamps[:500], unit="s"), "y": values[:500]})
    new_model().fit(warm)
    for n in sizes:
        print(json.dumps(measure(timestamps, values, n, args.repeats, args.horizon, args.algorithm)), flush=True)


if __name__ == "__main__":
    main()
