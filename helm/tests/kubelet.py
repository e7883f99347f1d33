#!/usr/bin/env python3
"""Runs a container of a pod as a process on this machine, as near to a kubelet as that goes without containers.

    kubelet.py NAMESPACE POD [--container NAME] --folder FOLDER --binaries FOLDER --api URL --ca FILE [--replace FROM=TO]...

The pod is what the API has of it. The image cloudpulse/NAME:TAG stands for the program cloudpulse-NAME. ConfigMaps, Secrets and
emptyDirs are made below --folder; arguments and environment name the places where they lie, in place of the mount paths.
hostPath volumes are the machine's own. Where the pod mounts a ServiceAccount's token, the program gets a kubeconfig with a
token bound to that pod. --replace changes what cannot be the same here, such as the pod's own address.

What is not done: users, read-only root, limits, probes, the pod's network.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import subprocess


def kubectl(*arguments):
    return subprocess.run(["kubectl", *arguments], check=True, capture_output=True, text=True).stdout


def get(namespace, kind, name):
    return json.loads(kubectl("-n", namespace, "get", kind, name, "-o", "json"))


def materialise(namespace, volume, folder):
    """Returns the folder with the volume's files."""
    if "hostPath" in volume:
        return volume["hostPath"]["path"]
    place = folder / volume["name"]
    place.mkdir(parents=True, exist_ok=True)
    if "emptyDir" in volume or "persistentVolumeClaim" in volume:
        return str(place)
    if "configMap" in volume:
        source = volume["configMap"]
        files = {key: text.encode() for key, text in get(namespace, "configmap", source["name"]).get("data", {}).items()}
    elif "secret" in volume:
        source = volume["secret"]
        data = get(namespace, "secret", source["secretName"]).get("data", {})
        files = {key: base64.b64decode(text) for key, text in data.items()}
    else:
        raise SystemExit(f"volume {volume['name']}: of a kind that is not known here: {sorted(volume)}")
    paths = {item["key"]: item["path"] for item in source.get("items", [])} or {key: key for key in files}
    for key, path in paths.items():
        (place / path).write_bytes(files[key])
    return str(place)


def environment(pod, container):
    values = {}
    for entry in container.get("env", []):
        if "value" in entry:
            values[entry["name"]] = entry["value"]
            continue
        field = pod
        for part in entry["valueFrom"]["fieldRef"]["fieldPath"].split("."):
            field = field[part]
        values[entry["name"]] = field
    return values


def kubeconfig(pod, folder, api, ca):
    """Writes a token and a kubeconfig with it, and returns the paths of both."""
    meta = pod["metadata"]
    bound = ["--bound-object-kind", "Pod", "--bound-object-name", meta["name"], "--bound-object-uid", meta["uid"]]
    account = pod["spec"]["serviceAccountName"]
    token = kubectl("-n", meta["namespace"], "create", "token", account, *bound).strip()
    (folder / "token").write_text(token)
    file = folder / "kubeconfig"
    file.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "pod",
        "clusters": [{"name": "pod", "cluster": {"server": api, "certificate-authority": ca}}],
        "users": [{"name": "pod", "user": {"token": token}}],
        "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod", "namespace": meta["namespace"]}}],
    }))
    return folder / "token", file


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("namespace")
    parser.add_argument("pod")
    parser.add_argument("--container")
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--api", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--replace", action="append", default=[])
    options = parser.parse_args()

    pod = get(options.namespace, "pod", options.pod)
    wanted = options.container
    container = next(c for c in pod["spec"]["containers"] if wanted in (None, c["name"]))
    options.folder.mkdir(parents=True, exist_ok=True)
    places = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    mounts = []
    token = False
    for mount in container.get("volumeMounts", []):
        if mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount":
            token = True
            continue
        mounts.append((mount["mountPath"], materialise(options.namespace, places[mount["name"]], options.folder)))
    mounts.sort(key=lambda pair: -len(pair[0]))

    variables = environment(pod, container)

    def here(text):
        text = re.sub(r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), text)
        for path, place in mounts:
            # Only whole names of folders, at the start of a path.
            text = re.sub(rf"(?<![\w/]){re.escape(path)}(?=/|$)", lambda _: place.rstrip("/") or "/", text)
        for change in options.replace:
            old, new = change.split("=", 1)
            text = text.replace(old, new)
        return text

    program = re.fullmatch(r"(?:.*/)?cloudpulse/(\w+)[:@].*", container["image"])[1]
    binary = os.path.join(options.binaries, f"cloudpulse-{program}")
    arguments = [here(argument) for argument in container["args"]]
    if token:
        token_file, config = kubeconfig(pod, options.folder, options.api, options.ca)
        arguments.append(f"--kubeconfig={config}")
        # The default is where a kubelet mounts it.
        variables["CLOUDPULSE_SCALER_EXTERNAL_METRICS_DELEGATE_TOKEN_FILE"] = str(token_file)
    print(" ".join([binary, *arguments]), flush=True)
    os.execve(binary, [binary, *arguments], {"PATH": os.environ["PATH"], **{k: here(v) for k, v in variables.items()}})


if __name__ == "__main__":
    main()
