"""The real programs beside which the commands of the documentation run: see test-docs.py."""

import contextlib
import csv
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Debug binaries, as `cargo build` leaves them.
BINARIES = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
START_SECONDS = 60
# The first forecasts of a debug build.
FORECAST_SECONDS = 180
SAMPLE_SECONDS = 30
# Alerts that the examples acknowledge.
ALERTS = [
    {"alertname": "CloudPulsePredictedHighCPU", "instance": "web-3:9100"},
    {"alertname": "CloudPulseCapacityBreachAhead", "rule": "shop/web"},
]


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def get(url, data=None, headers=None, method=None):
    """The body of the answer; raises OSError where there is none or it is no 2xx."""
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return answer.read().decode()


def wait_for(what, seconds, condition):
    """The first true result of `condition`, which may raise OSError meanwhile."""
    last, deadline = None, time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            result = condition()
            if result:
                return result
        except OSError as error:
            last = error
        time.sleep(0.1)
    raise TimeoutError(f"{what} within {seconds} s: {last or 'not so far'}")


class Program:
    """A running program, with its log in a file; ended by its own id."""

    def __init__(self, arguments, log, env=None):
        self.log = Path(log)
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                arguments, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env, cwd=self.log.parent
            )

    def wait_http(self, url):
        def answers():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.process.args[0]} ended with {self.process.returncode}\n{self.tail()}")
            return get(url) is not None

        wait_for(f"{self.process.args[0]} answers at {url}", START_SECONDS, answers)

    def tail(self):
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


class Load:
    """The web load of examples/web.csv, moved so that it ends a while after now, as a counter."""

    def __init__(self):
        with open(ROOT / "examples/web.csv", newline="") as file:
            rows = [(float(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
        self.begin = int(time.time()) - 6 * 86_400
        self.rates = {int((at - rows[0][0]) // 300): value for at, value in rows}
        self.total, self.totals = 0.0, []
        for slot in range(max(self.rates) + 1):
            self.totals.append(self.total)
            self.total += self.rates.get(slot, 0.0) * 300

    def counter(self, at):
        slot, into = divmod(at - self.begin, 300)
        slot = min(int(slot), len(self.totals) - 1)
        return self.totals[slot] + self.rates.get(slot, 0.0) * into

    def history(self):
        until = int(time.time())
        lines = [
            f'http_requests_total{{instance="web-1:8080",job="web"}} {self.counter(at)} {at}'
            for at in range(self.begin, until, SAMPLE_SECONDS)
        ]
        return "# TYPE http_requests counter\n" + "\n".join(lines) + "\n# EOF\n"

    def serve(self, port):
        load = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = f"# TYPE http_requests_total counter\nhttp_requests_total {load.counter(time.time())}\n".encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()


class Stack:
    """Prometheus, Alertmanager, exporter, predictor and scaler on free ports of 127.0.0.1, with six days of a load behind them."""

    def __init__(self, folder):
        self.folder = folder
        self.programs = []
        names = ["prometheus", "alertmanager", "exporter", "predictor", "scaler", "web"]
        self.ports = {name: free_port() for name in names}
        self.token = folder / "token"
        self.token.write_text("a-token-of-the-test\n")
        self.token.chmod(0o600)

    def url(self, name):
        return f"http://127.0.0.1:{self.ports[name]}"

    def start(self):
        load, listen = Load(), {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        history, data = self.folder / "history.om", self.folder / "data"
        history.write_text(load.history())
        subprocess.run(
            ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(history), str(data)],
            check=True, stdout=subprocess.DEVNULL,
        )
        history.unlink()
        load.serve(self.ports["web"])
        config = self.folder / "prometheus.yml"
        jobs = "".join(
            f"- job_name: {job}\n  honor_labels: {str(job == 'cloudpulse-predictor').lower()}\n"
            f'  static_configs: [{{targets: ["{listen[name]}"]{labels}}}]\n'
            for job, name, labels in [
                ("node", "exporter", ""), ("cloudpulse-predictor", "predictor", ""), ("cloudpulse-scaler", "scaler", ""),
                ("web", "web", ', labels: {instance: "web-1:8080"}'),
            ]
        )
        config.write_text(
            f"global: {{scrape_interval: 5s, evaluation_interval: 15s}}\nscrape_configs:\n{jobs}"
            f'rule_files: ["{ROOT}/rules/prometheus/*.rules.yml"]\n'
            f"remote_read:\n- url: {self.url('predictor')}/api/v1/read\n  read_recent: true\n"
            "  required_matchers: {__name__: cloudpulse_forecast_path}\n"
        )
        predictor = self.folder / "predictor.yml"
        predictor.write_text(
            f"prometheus: {{url: '{self.url('prometheus')}'}}\ndefaults: true\nforecasts:\n- name: web-requests\n"
            "  query: sum(rate(http_requests_total{job=\"web\"}[5m]))\n  bounds: {lower: 0}\n  interval: 15s\n"
        )
        rule = self.folder / "rules.yaml"
        rule.write_text((ROOT / "rules/scaling/web.yaml").read_text().replace(
            "docker: {project: shop, service: web}", "dryRun: {}"))
        alertmanager = self.folder / "alertmanager.yml"
        alertmanager.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        alertmanager_program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        token = str(self.token)
        for name, arguments, ready in [
            ("alertmanager", [alertmanager_program, f"--config.file={alertmanager}", "--cluster.listen-address=",
                              f"--storage.path={self.folder}/alerts", f"--web.listen-address={listen['alertmanager']}"], "/-/ready"),
            ("exporter", [BINARIES / "cloudpulse-exporter", "--web.listen-address", listen["exporter"]], "/readyz"),
            ("prometheus", ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}",
                            "--storage.tsdb.retention.time=400d", f"--web.listen-address={listen['prometheus']}"], "/-/ready"),
            ("predictor", [BINARIES / "cloudpulse-predictor", "serve", "--config", predictor, "--listen", listen["predictor"],
                           "--state-dir", self.folder / "state", "--state-interval", "10s", "--api-token-file", token], "/healthz"),
            ("scaler", [BINARIES / "cloudpulse-scaler", "serve", "--rules", rule, "--prometheus", self.url("prometheus"),
                        "--listen", listen["scaler"], "--interval", "2s", "--api-token-file", token], "/healthz"),
        ]:
            program = Program([str(argument) for argument in arguments], self.folder / f"{name}.log")
            self.programs.append(program)
            program.wait_http(self.url(name) + ready)
        self.raise_alerts()
        wait_for("the forecast of the load is in Prometheus", FORECAST_SECONDS, self.has_forecast)
        wait_for("the rule has decided", START_SECONDS, lambda: self.samples("cloudpulse_scaler_desired_replicas"))

    def raise_alerts(self):
        alerts = json.dumps([{"labels": labels} for labels in ALERTS]).encode()
        get(self.url("alertmanager") + "/api/v2/alerts", alerts, {"Content-Type": "application/json"})

    def lift_silences(self):
        url = self.url("alertmanager") + "/api/v2/silence"
        for silence in json.loads(get(url + "s")):
            if silence["status"]["state"] == "active":
                get(f"{url}/{silence['id']}", method="DELETE")

    def samples(self, query):
        address = f"{self.url('prometheus')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            return json.loads(get(address))["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.loads(error.read().decode())["error"]) from None

    def has_forecast(self):
        return self.samples('cloudpulse_forecast{forecast="web-requests"}') and (self.folder / "state").is_dir()

    def stop(self):
        for program in reversed(self.programs):
            with contextlib.suppress(ProcessLookupError):
                program.stop()
