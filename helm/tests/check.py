#!/usr/bin/env python3
"""Checks what the chart renders, without a cluster: for each file in values/ every object against Kubernetes' own schemas and
what the objects say of each other, what the programs say of their configurations and flags, that the scaler's rights are
those of scaler/manifests, and that bad values are refused.

    check.py BINARIES FOLDER     FOLDER gets values/NAME.yaml as rendered to NAME.yaml
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHART = ROOT / "helm/cloudpulse"
VERSIONS = ["1.37", "1.36"]
BINARIES = pathlib.Path(sys.argv[1]).resolve()
faults = []


def fault(where, what):
    faults.append(f"{where}: {what}")


def load_all(text):
    return yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def run(*command, **more):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)


def template(values, *more):
    release = "cloudpulse" if values.stem == "defaults" else "cp"
    return run("helm", "template", release, CHART, "--namespace", "cloudpulse", "--values", values, *more)


def identity(thing):
    return f"{thing['kind']}/{thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


# --- Schemas ---------------------------------------------------------------------------------------------------------------

def strict(schema):
    """Makes a CRD's schema refuse what it does not name."""
    if isinstance(schema, dict):
        schema = {key: strict(value) for key, value in schema.items()}
        if "properties" in schema and "metadata" not in schema["properties"]:
            schema["additionalProperties"] = False
    elif isinstance(schema, list):
        schema = [strict(value) for value in schema]
    return schema


MONITORING = {
    crd["spec"]["names"]["kind"]: strict(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    for crd in yaml.safe_load_all((HERE / "monitoring-crds.yaml").read_text())
}


def check_schema(where, thing):
    if thing["kind"] in MONITORING:
        for error in jsonschema.Draft202012Validator(MONITORING[thing["kind"]]).iter_errors(thing):
            fault(where, f"{identity(thing)}: {error.json_path}: {error.message}")
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except Exception as error:  # of several kinds, among them that the schema is not there
            fault(where, f"{identity(thing)} in Kubernetes {version}: {error}")


# --- What objects say of each other ------------------------------------------------------------------------------------------

def pods(things):
    for thing in things:
        if thing["kind"] in ("DaemonSet", "StatefulSet", "Deployment"):
            yield thing, thing["spec"]["template"]["spec"], thing["spec"]["template"]["metadata"]["labels"]
        elif thing["kind"] == "Pod":
            yield thing, thing["spec"], thing["metadata"]["labels"]


def matches(selector, labels):
    return selector.items() <= labels.items()


def check_relations(where, things):
    names = [identity(thing) for thing in things]
    for name in {name for name in names if names.count(name) > 1}:
        fault(where, f"{name} is there twice")
    made = set(names)
    ports = {}
    for owner, spec, labels in pods(things):
        namespace = owner["metadata"]["namespace"]
        ports[identity(owner)] = (labels, {port["name"] for c in spec["containers"] for port in c.get("ports", [])})
        if owner["kind"] != "Pod" and not matches(owner["spec"]["selector"]["matchLabels"], labels):
            fault(where, f"{identity(owner)} does not select its own pods")
        own = [thing for thing in things if thing["kind"] == "ServiceAccount" and matches(labels_of(owner), thing["metadata"]["labels"])]
        if own and spec["serviceAccountName"] != own[0]["metadata"]["name"]:
            fault(where, f"{identity(owner)} runs as {spec['serviceAccountName']}")
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for c in spec["containers"] for mount in c.get("volumeMounts", [])}
        if mounted != volumes:
            fault(where, f"{identity(owner)} mounts {sorted(mounted)} of the volumes {sorted(volumes)}")
        for volume in spec.get("volumes", []):
            name = volume.get("configMap", {}).get("name")
            # "ca" is a user's own.
            if name and name != "ca" and f"ConfigMap/{namespace}/{name}" not in made:
                fault(where, f"{identity(owner)}: there is no ConfigMap {name}")
    for thing in things:
        spec = thing.get("spec", {})
        selector = spec.get("selector") if thing["kind"] == "Service" else spec.get("selector", {}).get("matchLabels")
        if thing["kind"] in ("Service", "PodDisruptionBudget", "ServiceMonitor", "PodMonitor"):
            if thing["kind"] == "ServiceMonitor":
                found = [t for t in things if t["kind"] == "Service" and matches(selector, t["metadata"]["labels"])]
                offered = {port["name"] for t in found for port in t["spec"]["ports"]}
            else:
                found = [offer for labels, offer in ports.values() if matches(selector, labels)]
                offered = {port for offer in found for port in offer}
            wanted = {port["targetPort"] for port in spec.get("ports", [])}
            wanted |= {end["port"] for end in spec.get("endpoints", []) + spec.get("podMetricsEndpoints", [])}
            if len(found) != 1 or not wanted <= offered:
                fault(where, f"{identity(thing)} selects {len(found)} and wants the ports {sorted(wanted)} of {sorted(offered)}")
        if thing["kind"] == "APIService":
            service = f"Service/{spec['service']['namespace']}/{spec['service']['name']}"
            found = [t for t in things if identity(t) == service]
            if not found or spec["service"]["port"] not in [port["port"] for port in found[0]["spec"]["ports"]]:
                fault(where, f"{identity(thing)} leads to {service}, which is not there")
        for subject in thing.get("subjects", []):
            account = f"ServiceAccount/{subject['namespace']}/{subject['name']}"
            used = {(o["metadata"]["namespace"], s["serviceAccountName"]) for o, s, _ in pods(things) if "serviceAccountName" in s}
            if subject["name"] != "horizontal-pod-autoscaler" and (subject["namespace"], subject["name"]) not in used:
                fault(where, f"{identity(thing)} gives rights to {account}, as whom nothing runs")
        reference = thing.get("roleRef")
        if reference and not reference["name"].startswith(("system:", "extension-apiserver-")):
            namespace = thing["metadata"]["namespace"] if reference["kind"] == "Role" else ""
            if f"{reference['kind']}/{namespace}/{reference['name']}" not in made:
                fault(where, f"{identity(thing)} refers to {reference['name']}, which is not there")


def labels_of(owner):
    wanted = ("app.kubernetes.io/component", "app.kubernetes.io/instance")
    return {key: value for key, value in owner["metadata"]["labels"].items() if key in wanted}


# --- What the programs say -----------------------------------------------------------------------------------------------------

def check_programs(where, things):
    with tempfile.TemporaryDirectory() as folder:
        for thing in things:
            for name, text in thing.get("data", {}).items() if thing["kind"] == "ConfigMap" else []:
                file = pathlib.Path(folder) / name
                file.write_text(text)
                command = {
                    "predictor.yaml": ["cloudpulse-predictor", "check", file],
                    "external-metrics.yaml": ["cloudpulse-scaler", "check", "--external-metrics.config", file],
                    "rule.yaml": ["cloudpulse-scaler", "check", file],
                }.get(name)
                if command is None:
                    if not name.endswith(".json"):
                        fault(where, f"{identity(thing)}: nothing here checks {name}")
                    elif json.loads(text) != json.loads((ROOT / "dashboards" / name.removeprefix("cloudpulse-")).read_text()):
                        fault(where, f"{identity(thing)}: {name} is not that of dashboards/")
                    continue
                checked = run(BINARIES / command[0], *command[1:])
                if checked.returncode != 0:
                    fault(where, f"{identity(thing)}: {name}: {checked.stderr}")
    for owner, spec, _ in pods(things):
        for container in spec["containers"]:
            # An unknown flag is exit code 2. Known ones get as far as what is not here: a file, a cluster, a server.
            program = re.search(r"/(\w+)[:@]", container["image"])[1]
            arguments = [argument.replace("$(HOST_IP)", "127.0.0.1") for argument in container["args"]]
            arguments = [re.sub(r"(web.listen-address=).*", r"\g<1>256.0.0.1:1", argument) if program == "exporter" else argument for argument in arguments]
            got = run(BINARIES / f"cloudpulse-{program}", *arguments, timeout=60, env={"HOSTNAME": "x-0", "PATH": "/nowhere"})
            wanted = {
                "exporter": (2, "listen address"),
                "predictor": (1, "predictor.yaml"),
                "scaler": (1, "no Kubernetes cluster is known|cannot be reached|No such file"),
            }[program]
            if got.returncode != wanted[0] or not re.search(wanted[1], got.stderr):
                fault(where, f"{identity(owner)}: {program} {' '.join(container['args'])}: exit code {got.returncode}: {got.stderr}")


def check_rules(where, things):
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for thing in things:
            if thing["kind"] != "PrometheusRule":
                continue
            stem = thing["metadata"]["name"].rsplit("-", 1)[1]
            files.append(pathlib.Path(folder) / f"{thing['metadata']['name']}.yml")
            files[-1].write_text(yaml.safe_dump({"groups": thing["spec"]["groups"]}))
            original = (ROOT / f"rules/prometheus/{stem}.rules.yml").read_text()
            original = original.replace("runbook_url: docs/runbooks/", "runbook_url: https://example.com/runbooks/") if where == "everything" else original
            if thing["spec"] != yaml.safe_load(original):
                fault(where, f"{identity(thing)} is not rules/prometheus/{stem}.rules.yml")
        if files:
            checked = run("promtool", "check", "rules", *files)
            if checked.returncode != 0:
                fault(where, checked.stdout + checked.stderr)
    return len(files)


# --- Rights ----------------------------------------------------------------------------------------------------------------

def rights(things):
    found = {identity(thing): thing["spec"] for thing in things if thing["kind"] == "APIService"}
    for thing in things:
        if thing["kind"] in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"):
            parts = {part: thing[part] for part in ("rules", "roleRef", "subjects", "aggregationRule") if part in thing}
            if "aggregationRule" in parts:
                parts.pop("rules", None)  # Kubernetes' own
            joins = thing["metadata"].get("labels", {}).get("cloudpulse.io/aggregate-to-scaler")
            found[identity(thing)] = parts | {"joins": joins}
    return found


def check_rights(things):
    manifests = []
    for name in ("scaler.yaml", "external-metrics.yaml"):
        manifests += [thing for thing in yaml.safe_load_all((ROOT / "scaler/manifests" / name).read_text()) if thing]
    ours, theirs = rights(things), rights(manifests)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            fault("rights", f"{name}: the chart gives {ours.get(name)}, scaler/manifests {theirs.get(name)}")


# --- Scrape configurations ---------------------------------------------------------------------------------------------------

def check_scraping(things):
    config = yaml.safe_load((CHART / "examples/scrape-configs.yaml").read_text())
    for job in config["scrape_configs"]:
        program = job["job_name"].removeprefix("cloudpulse-")
        keep = job["relabel_configs"][0]
        names = [name.removeprefix("__meta_kubernetes_pod_label_") for name in keep["source_labels"]]
        kept = []
        for owner, _, labels in pods(things):
            flat = {re.sub(r"\W", "_", key): value for key, value in labels.items()}
            if re.fullmatch(keep["regex"], ";".join(flat.get(name, "") for name in names)):
                kept.append(owner["metadata"]["name"])
        if kept != [f"cloudpulse-{program}"]:
            fault("scrape-configs.yaml", f"{job['job_name']} keeps {kept}")
        # Debian's promtool is built without Kubernetes' discovery.
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
        job["static_configs"] = []
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump(config, file)
        file.flush()
        checked = run("promtool", "check", "config", "--syntax-only", file.name)
        if "SUCCESS" not in checked.stdout:
            fault("scrape-configs.yaml", checked.stdout + checked.stderr)


def check_refused():
    cases = yaml.safe_load((HERE / "refused.yaml").read_text())
    for case in cases:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(case["values"], file)
            file.flush()
            got = template(pathlib.Path(file.name))
            if got.returncode == 0 or case["says"] not in got.stderr.replace("/", "."):
                fault("refused.yaml", f"{case['values']}: exit code {got.returncode}: {got.stderr}")
    return len(cases)


def check_values(values, out):
    """Returns how many objects and files of rules there are."""
    where = values.stem
    rendered = template(values)
    if rendered.returncode != 0:
        fault(where, rendered.stderr)
        return 0, 0
    (out / f"{where}.yaml").write_text(rendered.stdout)
    things = [thing for thing in load_all(rendered.stdout) if thing]
    for thing in things:
        check_schema(where, thing)
    check_relations(where, things)
    check_programs(where, things)
    if where == "defaults":
        check_rights(things)
        check_scraping(things)
    return len(things), check_rules(where, things)


def main():
    out = pathlib.Path(sys.argv[2])
    sets = sorted((HERE / "values").glob("*.yaml"))
    with ThreadPoolExecutor(4) as pool:
        refused = pool.submit(check_refused)
        counts = list(pool.map(lambda values: check_values(values, out), sets))
        refused = refused.result()
    objects, rules = (sum(column) for column in zip(*counts))
    for line in faults:
        print(line, file=sys.stderr)
    print(f"{len(sets)} sets of values: {objects} objects valid for Kubernetes {' and '.join(VERSIONS)}, "
          f"{rules} files of rules, {refused} bad sets of values refused; {len(faults)} faults")
    sys.exit(1 if faults or not rules else 0)


if __name__ == "__main__":
    main()
