#!/usr/bin/env python3
"""Runs the commands of README.md and docs/**/*.md against the real programs, and checks their configurations and queries.

Every `sh` block is run command by command, every `yaml` block is read by the program that it is for, every `promql` block is asked
of a real Prometheus. What is not says why, in a comment right before its block:

    <!-- not run: takes a cluster -->        <!-- not checked: a fragment -->

in one anywhere in its page that speaks for the whole page, `<!-- nothing here is run: why -->`, or begins with a program of ELSEWHERE. Anything else that fails is a failure. A `yaml` block that begins with `# NAME.yml` is also
written to that file, for the commands of its page. Beside them run Prometheus, Alertmanager, exporter, predictor and scaler (see
docs_stack.py); their usual addresses are replaced. `scripts/test-docs.py PAGE...` takes only those pages.
"""

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from docs_stack import BINARIES, ROOT, Program, Stack, free_port, get

COMMAND_SECONDS = 300
# What takes longer is named, so that nobody wonders where the time goes.
SLOW_SECONDS = 10
# Programs that do not run here, and why; a command that only pipes into one runs up to there.
ELSEWHERE = {
    "kubectl": "takes a cluster; make test-kubernetes has one",
    "helm": "takes a cluster and a chart",
    "docker": "takes an engine and images",
    "journalctl": "takes systemd",
    "systemctl": "takes systemd",
    "git": "changes the checkout",
    "cargo": "the programs are built beforehand",
    "htpasswd": "asks for a password",
    "sed": "changes files of the repository",
    "node": "make dashboards runs it",
    "jq": "is not on every machine",
}
# In runbooks, what is in capitals is a label of the alert or a name of the reader's.
PLACEHOLDER = re.compile(r"(?<![$\w{])\b[A-Z][A-Z_]+\b(?!-\d)")
ABOUT_A_MACHINE = ("lsof", "ping", "ps ", "df ", "du ", "find ")
MARK = re.compile(r"<!-- not (?:run|checked): (.+?) -->")
PAGE_MARK = re.compile(r"<!-- nothing here is run: (.+?) -->")
FENCE = re.compile(r"^(\s*)```(\S*)\s*$")
# What the examples call by their usual addresses.
ADDRESSES = {
    "prometheus": r"(?:127\.0\.0\.1|prometheus(?:\.monitoring)?):9090",
    "exporter": r"127\.0\.0\.1:9100",
    "predictor": r"127\.0\.0\.1:9101",
    "scaler": r"127\.0\.0\.1:9102",
    "alertmanager": r"127\.0\.0\.1:9093",
}

Block = collections.namedtuple("Block", "page line language text mark")


def blocks(page):
    text = page.read_text(encoding="utf-8")
    of_page = PAGE_MARK.search(text)
    lines = text.split("\n")
    found, at = [], 0
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if not fence:
            at += 1
            continue
        end = next((n for n in range(at + 1, len(lines)) if lines[n].strip() == "```"), None)
        if end is None:
            raise ValueError(f"{page}:{at + 1}: a block without an end")
        before = next((line for line in reversed(lines[:at]) if line.strip()), "")
        mark = MARK.search(before) or of_page
        text = textwrap.dedent("\n".join(lines[at + 1 : end]))
        found.append(Block(page, at + 2, fence[2], text, mark and mark[1]))
        at = end + 1
    return found


def commands(block):
    """The commands of a shell block with their lines; one may go over several."""
    found, pending, start = [], "", 0
    for number, line in enumerate(block.text.split("\n"), block.line):
        if block.language == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        start = start if pending else number
        pending += line + "\n"
        whole = not line.rstrip().endswith("\\")
        if whole and subprocess.run(["bash", "-n", "-c", pending], capture_output=True).returncode == 0:
            found.append((start, pending.strip()))
            pending = ""
    if pending:
        raise ValueError(f"{block.page}:{start}: no whole command: {pending}")
    return found


class Test:
    def __init__(self, stack):
        self.stack = stack
        self.run = self.checked = 0
        self.marked = collections.Counter()
        self.failures = []
        self.work = None
        self.targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))

    def environment(self, **more):
        url = self.stack.url
        ours = {
            "PATH": f"{BINARIES}:{ROOT}/target/tools/bin:{os.environ['PATH']}",
            "HOME": str(self.stack.folder),
            "USER": "reader",
            "HOSTNAME": "cloudpulse-predictor-1",
            "PROMETHEUS": url("prometheus"),
            "CLOUDPULSE_PREDICTOR_PROMETHEUS": url("prometheus"),
            "CLOUDPULSE_PREDICTOR_URL": url("predictor"),
            "CLOUDPULSE_SCALER_PROMETHEUS": url("prometheus"),
            "CLOUDPULSE_SCALER_URL": url("scaler"),
            "CLOUDPULSE_SCALER_ALERTMANAGER": url("alertmanager"),
        }
        return {**ours, **more}

    def readdress(self, text):
        for name, pattern in ADDRESSES.items():
            text = re.sub(pattern, f"127.0.0.1:{self.stack.ports[name]}", text)
        return text.replace("target/release/", "")

    def page(self, page):
        """Goes through a page, in a folder that has what the repository has, and files of usual names."""
        self.work = Path(tempfile.mkdtemp(dir=self.stack.folder))
        for name in ["examples", "rules", "dashboards", "docs", "scaler", "helm", "docker"]:
            if (ROOT / name).exists():
                (self.work / name).symlink_to(ROOT / name)
        shutil.copy(self.stack.token, self.work / "token")
        for name in ["web.csv", "load.csv"]:
            shutil.copy(ROOT / "examples/web.csv", self.work / name)
        shutil.copy(ROOT / "rules/scaling/web.yaml", self.work / "web.yaml")
        shutil.copy(self.stack.folder / "predictor.yml", self.work / "predictor.yml")
        shutil.copytree(self.stack.folder / "state", self.work / "state")
        self.stack.lift_silences()
        for block in blocks(page):
            if block.language in ("sh", "console", "bash", "shell"):
                self.shell(block)
            elif block.language in ("yaml", "yml"):
                self.yaml(block)
            elif block.language == "promql":
                self.promql(block)

    def fail(self, block, line, what):
        self.failures.append(f"{block.page.relative_to(ROOT)}:{line}: {what}")

    # --- Shell ---

    def shell(self, block):
        for line, command in commands(block):
            reason = block.mark or self.why_not(block, command)
            if reason:
                self.marked[reason] += 1
                continue
            elsewhere = re.search(rf"\|\s*(?:{'|'.join(ELSEWHERE)})\b", command)
            command = self.readdress(command[: elsewhere.start()] if elsewhere else command)
            if elsewhere:
                self.marked[f"what is piped into {elsewhere[0].strip('| ')}"] += 1
            first = command.split()[0]
            serves = first == "cloudpulse-exporter" or (first.startswith("cloudpulse-") and command.split()[1] == "serve")
            began = time.monotonic()
            problem = self.make(command) if first == "make" else self.serve(command) if serves else self.execute(command)
            if time.monotonic() - began > SLOW_SECONDS:
                print(f"{time.monotonic() - began:4.0f} s: {command}", flush=True)
            if problem:
                self.fail(block, line, f"{command}\n{textwrap.indent(problem.strip(), '    ')}")
            else:
                self.run += 1

    def why_not(self, block, command):
        program = re.match(rf"(?:\w+=\S* )*({'|'.join(ELSEWHERE)})\b", command)
        if program:
            return f"{program[1]}: {ELSEWHERE[program[1]]}"
        if "runbooks" in block.page.parts:
            text = command.split(" #")[0]
            if text.startswith("cloudpulse-scaler check --prometheus"):
                return "its findings, of rules whose load is not there, are what the runbook wants to see"
            # A query may name a label's value in capitals: it is asked, and finds nothing.
            bare = re.sub(r"'[^']*'", "''", text) if text.startswith("promtool query") else text
            if PLACEHOLDER.search(bare) or text.startswith(ABOUT_A_MACHINE):
                return "a runbook's command about the machine or the name that the alert is about"
        return None

    def make(self, command):
        target = command.split()[1]
        return None if target in self.targets else f"the Makefile has no target {target}"

    def execute(self, command):
        try:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command], cwd=self.work, env=self.environment(), timeout=COMMAND_SECONDS,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        except subprocess.TimeoutExpired:
            return f"not done after {COMMAND_SECONDS} s"
        return None if done.returncode == 0 else f"exit code {done.returncode}\n{done.stdout.decode(errors='replace')[-1500:]}"

    def serve(self, command):
        """Starts a program that serves, waits until it is healthy, and ends it: it must end well."""
        port = free_port()
        listen = f"127.0.0.1:{port}"
        variables = {
            name: listen for name in ["LISTEN_ADDRESS", "CLOUDPULSE_PREDICTOR_LISTEN", "CLOUDPULSE_SCALER_LISTEN"]
        }
        if " --state-dir state" in command:
            shutil.rmtree(self.work / "state", ignore_errors=True)
        log = self.work / f"serve-{port}.log"
        program = Program(["bash", "-euo", "pipefail", "-c", f"exec {command}"], log, self.environment(**variables))
        try:
            program.wait_http(f"http://{listen}/healthz")
        except (RuntimeError, TimeoutError) as error:
            program.stop()
            return f"{error}\n{program.tail()}"
        code = program.stop()
        return None if code == 0 else f"exit code {code} after SIGTERM\n{program.tail()}"

    # --- Configurations and queries ---

    def yaml(self, block):
        named = re.match(r"# ([\w.-]+\.ya?ml)\b", block.text)
        if named:
            (self.work / named[1]).write_text(self.readdress(block.text))
        if block.mark:
            self.marked[block.mark] += 1
            return
        file = self.work / "checked.yml"
        file.write_text(block.text + "\n")
        checker = self.checker(block.text)
        if checker is None:
            self.fail(block, block.line, "nothing here reads such a file; mark it with <!-- not checked: why -->")
            return
        problem = self.execute(f"{checker} {file.name}")
        if problem:
            self.fail(block, block.line, f"{checker}\n{textwrap.indent(problem.strip(), '    ')}")
        else:
            self.checked += 1

    def checker(self, text):
        """The program that reads such a file."""
        has = lambda key: re.search(rf"(?m)^{key}:", text)
        if re.search(r"(?m)^kind: ScalingRule", text):
            return "cloudpulse-scaler check"
        if has("forecasts") or has("prometheus"):
            return "cloudpulse-predictor check"
        if has("externalRules"):
            return "cloudpulse-scaler convert adapter"
        if has("metrics"):
            return "cloudpulse-scaler check --external-metrics.config"
        if has("groups"):
            return "promtool check rules"
        if has("scrape_configs") or has("remote_read") or has("rule_files"):
            # The files of a TLS client are the reader's.
            return f"promtool check config{' --syntax-only' if 'tls_config' in text else ''}"
        return None

    def promql(self, block):
        queries = [it for it in re.split(r"\n\s*\n", block.text) if re.sub(r"(?m)^#.*$", "", it).strip()]
        for query in queries:
            parts = [query] if self.parses(query) is None else [it for it in query.split("\n") if it and not it.startswith("#")]
            for part in parts:
                problem = self.parses(part)
                if problem:
                    self.fail(block, block.line, f"{part.strip()}\n    {problem}")
                else:
                    self.checked += 1

    def parses(self, query):
        try:
            self.stack.samples(query)
        except ValueError as error:
            return str(error)
        return None

    # --- The reference, held to what the running programs show ---

    def reference(self):
        """Each family that predictor and scaler show is in the reference, with the labels that stand there."""
        for name in ["predictor", "scaler"]:
            page = ROOT / f"docs/reference/metrics-{name}.md"
            rows = re.findall(r"(?m)^\| `(\w+)` \| (\w+) \| (.*?) \| ", page.read_text())
            known = {family: (kind, set(re.findall(r"`(\w+)`", labels))) for family, kind, labels in rows}
            block = Block(page, 1, "", "", None)
            for family, kind, labels in families(get(f"{self.stack.url(name)}/metrics")):
                if family not in known or known[family][0] != kind:
                    self.fail(block, 1, f"the program shows {family}, a {kind}; make references")
                elif labels is not None and not known[family][1] <= labels:
                    self.fail(block, 1, f"{family} has the labels {sorted(labels)} on the page of the program")
                else:
                    self.checked += 1


def families(text):
    """Name, type and labels of each family of a page; labels are None without samples."""
    found = []
    for part in re.split(r"(?m)^# HELP ", text)[1:]:
        name, kind = re.search(r"(?m)^# TYPE (\w+) (\w+)$", part).groups()
        samples = [line for line in part.split("\n")[1:] if line and not line.startswith("#")]
        labels = set(re.findall(r'[{,](\w+)="', "\n".join(samples))) - {"le"} if samples else None
        found.append((name, kind, labels))
    return found


def main():
    chosen = [Path(name).resolve() for name in sys.argv[1:]]
    pages = chosen or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cloudpulse-docs-") as folder:
        stack = Stack(Path(folder))
        try:
            stack.start()
            print(f"the programs run and forecast after {time.monotonic() - began:.0f} s", flush=True)
            test = Test(stack)
            for page in pages:
                test.page(page)
            if not chosen:
                test.reference()
        except Exception:
            for program in stack.programs:
                print(f"--- {program.log.name}\n{program.tail()}", file=sys.stderr)
            raise
        finally:
            stack.stop()
    print(f"{len(pages)} pages: {test.run} commands run, {test.checked} configurations, queries and families checked, "
          f"{test.marked.total()} commands and blocks marked, {len(test.failures)} failed, in {time.monotonic() - began:.0f} s")
    for reason, count in sorted(test.marked.items()):
        print(f"  {count:3} marked: {reason}")
    for failure in test.failures:
        print(f"FAILED {failure}", file=sys.stderr)
    sys.exit(1 if test.failures else 0)


main()
