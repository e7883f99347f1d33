#!/usr/bin/env python3
"""The mixing network of predictor/lstm in PyTorch, timed as asked: the peer of the network's benchmark.

    echo train | lstm_torch.py --threads 1 --config config.json

In: a JSON file with the network's sizes (the fields of `Shape`), `train_windows`, `infer_windows` and `queries`; and on stdin
one request a line, `train` or `infer`. Out: when it is warm an empty line, then one JSON object a request, on stdout. One
measurement a request, so that the caller can take turns with its own.

`train` is a forward pass, the loss, the backward pass, the clip of the gradient's norm and a step of AdamW on one batch;
`infer` the forward pass of all windows under `torch.inference_mode`. Batches are made before and are the same each time; both
sides read them from memory.

Fields: `seconds`, wall time of each repetition; `versions`.
"""

import argparse
import json
import platform
import sys
import time


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE", required=True, help="sizes, as JSON")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions a request (default: %(default)s)")
    return parser.parse_args()


def network(config):
    """Returns the network as a module: (batch) -> quantiles [windows][queries][levels]."""
    import torch
    from torch import nn

    anchors, own, levels = config["anchors"], config["quantile_anchors"], config["levels"]
    width, hidden, embed = config["width"], config["hidden"], config["embed"]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.coarse = nn.Linear(config["coarse_width"], embed)
            self.fine = nn.Linear(config["fine_width"], embed)
            self.lstm = nn.LSTM(embed, hidden, batch_first=True)
            # The part of the window is computed once a window, the query's once a query.
            self.query = nn.Linear(config["query"], width, bias=False)
            self.context = nn.Linear(config["window"] + (hidden if config["recurrent"] else 0), width)
            self.deep = nn.Linear(width, width)
            self.out = nn.Linear(width, levels * (anchors + own + 1))

        def forward(self, batch):
            silu = nn.functional.silu
            context = batch["window"]
            if config["recurrent"]:
                tokens = torch.cat([silu(self.coarse(batch["coarse"])), silu(self.fine(batch["fine"]))], 1)
                _, (state, _) = self.lstm(tokens)
                context = torch.cat([context, state[0]], 1)
            entry = silu(self.query(batch["query"]) + self.context(context).unsqueeze(1))
            out = self.out(entry + silu(self.deep(entry)))
            out = out.unflatten(-1, (anchors + own + 1, levels))
            # Finite, so that a query without a known anchor has weights that known then makes 0.
            logits = out[..., :-1, :].masked_fill(batch["unknown"], -1e30)
            weights = torch.softmax(logits, 2) * batch["known"]
            return (weights * batch["anchor"]).sum(2) + out[..., -1, :]

    return Network()


def draw(config, windows):
    """Returns a drawn batch: anchors as [windows][queries][slots][levels], a third of them unknown."""
    import torch

    queries, levels = config["queries"], config["levels"]
    slots = config["anchors"] + config["quantile_anchors"]
    known = (torch.rand(windows, queries, slots, 1) > 0.33).float()
    return {
        "coarse": torch.rand(windows, config["coarse_tokens"], config["coarse_width"]) * 2 - 1,
        "fine": torch.rand(windows, config["fine_tokens"], config["fine_width"]) * 2 - 1,
        "window": torch.rand(windows, config["window"]) * 2 - 1,
        "query": torch.rand(windows, queries, config["query"]) * 2 - 1,
        "anchor": (torch.rand(windows, queries, slots, levels) * 2 - 1) * known,
        "known": known,
        "unknown": known == 0,
        "target": torch.rand(windows, queries) * 2 - 1,
        "weight": torch.rand(windows, queries),
    }


def main():
    args = parse_arguments()
    with open(args.config) as file:
        config = json.load(file)

    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = network(config)
    # foreach: one call for all tensors, the fastest on the CPU here.
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=True)
    levels = torch.arange(1, config["levels"] + 1) / (config["levels"] + 1)
    train_batch = draw(config, config["train_windows"])
    infer_batch = draw(config, config["infer_windows"])

    def train():
        optimiser.zero_grad(set_to_none=True)
        error = train_batch["target"].unsqueeze(-1) - model(train_batch)
        pinball = torch.maximum(levels * error, (levels - 1) * error).mean(-1)
        loss = (pinball * train_batch["weight"]).sum() / train_batch["weight"].sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimiser.step()

    def infer():
        with torch.inference_mode():
            model(infer_batch)

    requests = {"train": train, "infer": infer}
    for function in requests.values():
        for _ in range(3):
            function()
    print(flush=True)
    for line in sys.stdin:
        function = requests.get(line.strip())
        if function is None:
            sys.exit(f"unknown request {line!r}")
        seconds = []
        for _ in range(args.repeat):
            started = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - started)
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        print(json.dumps({"seconds": seconds, "versions": versions}), flush=True)


if __name__ == "__main__":
    main()
