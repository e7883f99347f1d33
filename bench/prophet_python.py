#!/usr/bin/env python3
"""Fits Python Prophet to a series as asked and says what CPU time it took: the peer of the Prophet benchmark.

    echo "2000 additive" | prophet_python.py --csv series.csv

In: a CSV file of `timestamp,value` (Unix seconds, a header line, one row per sample, the step constant), and on stdin one
request a line: a size n and a seasonality mode. The first n rows are the history. Out: when it is ready an empty line, then one
JSON object a request, on stdout; progress on stderr. One fit a request, so that the caller can take turns with its own.

The model: linear trend with 25 changepoints (prior scale 0.05), daily season of order 4 and weekly season of order 3, no
uncertainty samples. Only `fit` is timed; a small fit before warms the caches. One thread.

Fields: `n`; `mode`; `algorithm`; `cpu_seconds`; `negative_log_posterior`, lower is better, up to a constant that all solvers
share, in Prophet's scaled units; `yhat`, the forecast of the next `--horizon` steps in the unit of the series; `versions`.
"""

import argparse
import csv
import json
import math
import os
import platform
import resource
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is loaded
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

CHANGEPOINTS = 25
CHANGEPOINT_PRIOR_SCALE = 0.05
DAILY_ORDER = 4
WEEKLY_ORDER = 3
MODES = ("additive", "multiplicative")


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


def negative_log_posterior(model):
    """Returns T ln s + RSS/(2s²) + k²/50 + m²/50 + Σ|δ|/τ + Σβ²/(2sd²) + 2s² at the fitted parameters, as Stan's model has it."""
    import numpy as np

    t = model.history["t"].to_numpy()
    y = model.history["y_scaled"].to_numpy()
    features, prior_scales, _, _ = model.make_all_seasonality_features(model.history)
    k, m, sigma = (float(np.ravel(model.params[name])[0]) for name in ("k", "m", "sigma_obs"))
    delta, beta = (np.ravel(model.params[name]) for name in ("delta", "beta"))
    hinges = np.maximum(t[:, None] - model.changepoints_t[None, :], 0)
    trend, season = k * t + m + hinges @ delta, features.to_numpy() @ beta
    multiplicative = model.seasonality_mode == "multiplicative"
    residual = y - (trend * (1 + season) if multiplicative else trend + season)
    return float(
        len(t) * math.log(sigma)
        + residual @ residual / (2 * sigma**2)
        + k**2 / 50
        + m**2 / 50
        + np.abs(delta).sum() / CHANGEPOINT_PRIOR_SCALE
        + (beta**2 / (2 * np.asarray(prior_scales) ** 2)).sum()
        + 2 * sigma**2
    )


def new_model(mode):
    from prophet import Prophet

    return Prophet(
        growth="linear",
        n_changepoints=CHANGEPOINTS,
        changepoint_prior_scale=CHANGEPOINT_PRIOR_SCALE,
        daily_seasonality=DAILY_ORDER,
        weekly_seasonality=WEEKLY_ORDER,
        yearly_seasonality=False,
        seasonality_mode=mode,
        uncertainty_samples=0,
    )


def cpu_seconds():
    """Returns the CPU time of this process and of its children that have ended, Stan's program among them."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(timestamps, values, n, mode, horizon, algorithm):
    """Returns the JSON object of one fit."""
    import cmdstanpy
    import numpy
    import pandas
    import prophet

    step = timestamps[1] - timestamps[0]
    history = pandas.DataFrame({"ds": pandas.to_datetime(timestamps[:n], unit="s"), "y": values[:n]})
    options = {} if algorithm == "lbfgs" else {"algorithm": "Newton"}
    model = new_model(mode)
    started = cpu_seconds()
    model.fit(history, **options)
    seconds = cpu_seconds() - started
    first = timestamps[n - 1] + step
    future = pandas.DataFrame({"ds": pandas.to_datetime([first + i * step for i in range(horizon)], unit="s")})
    return {
        "n": n,
        "mode": mode,
        "algorithm": algorithm,
        "cpu_seconds": seconds,
        "negative_log_posterior": negative_log_posterior(model),
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
    parser.add_argument("--csv", metavar="FILE", required=True, help="the series")
    parser.add_argument("--horizon", type=positive, default=288, help="steps to forecast (default: %(default)s)")
    parser.add_argument(
        "--algorithm",
        choices=("lbfgs", "newton"),
        default="lbfgs",
        help="Stan's optimizer: lbfgs is Prophet's default, which stops early; newton converges and is far slower",
    )
    args = parser.parse_args()

    timestamps, values = read_series(args.csv)

    import logging

    logging.disable(logging.INFO)  # cmdstanpy's note of each start; warnings, such as a change of optimizer, stay
    logging.getLogger("prophet.plot").setLevel(logging.CRITICAL)  # it logs an error where plotly is missing
    import pandas

    warm = pandas.DataFrame({"ds": pandas.to_datetime(timestamps[:500], unit="s"), "y": values[:500]})
    for mode in MODES:
        new_model(mode).fit(warm)
    print(flush=True)
    for line in sys.stdin:
        size, mode = line.split()
        n = positive(size)
        if n > len(values) or mode not in MODES:
            sys.exit(f"cannot fit {line!r}: there are {len(values)} rows")
        print(json.dumps(measure(timestamps, values, n, mode, args.horizon, args.algorithm)), flush=True)


if __name__ == "__main__":
    main()
