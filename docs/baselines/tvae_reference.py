"""Distances of rows from the training calls: those of the package `ctgan`, and those of `tvae`.

    pip install ctgan==0.12.1 pyarrow
    tracegym data build simulator --out DATASET
    python tvae_reference.py DATASET/calls.parquet --epochs 38 NAME=CALLS.parquet ...

Each CALLS.parquet holds the answers of a generate stage. Columns of the result: total variation of
source, destination, type, edge id and of (source, type, destination) together; Kolmogorov-Smirnov
distance of start and response time.
"""

import argparse
import time

import numpy as np
import pandas as pd

DISCRETE = ["edge_id", "source", "destination", "type"]
COLUMNS = DISCRETE + ["start", "response"]


def rows(path):
    calls = pd.read_parquet(path)
    calls["response"] = calls["finish"].astype("int64") - calls["start"].astype("int64")
    calls["start"] = calls["start"].astype("int64")
    return calls


def variation(real, synthetic):
    real, synthetic = (side.value_counts(normalize=True) for side in (real, synthetic))
    return real.sub(synthetic, fill_value=0).abs().sum() / 2


def kolmogorov_smirnov(real, synthetic):
    points = np.union1d(real, synthetic)
    cdf = lambda side: np.searchsorted(np.sort(side), points, side="right") / len(side)
    return np.abs(cdf(real) - cdf(synthetic)).max()


def report(name, real, synthetic):
    synthetic = synthetic.reset_index(drop=True)
    call = lambda side: side["source"] + " " + side["type"] + " " + side["destination"]
    values = [variation(real[column], synthetic[column]) for column in DISCRETE[1:] + DISCRETE[:1]]
    values.append(variation(call(real), call(synthetic)))
    for column in ["start", "response"]:
        values.append(kolmogorov_smirnov(real[column].to_numpy(), synthetic[column].to_numpy()))
    print(f"| {name} | {len(synthetic)} |", " | ".join(f"{value:.3f}" for value in values), "|")


def reference(train, epochs, samples, seed):
    import ctgan
    import torch

    torch.manual_seed(seed)
    np.random.seed(seed)
    torch.set_num_threads(1)
    model = ctgan.TVAE(epochs=epochs, enable_gpu=False)
    begin = time.process_time()
    model.fit(train[COLUMNS].reset_index(drop=True), DISCRETE)
    print(f"ctgan {ctgan.__version__}, torch {torch.__version__}: {time.process_time() - begin:.0f} s")
    print("loss", model.loss_values["Loss"].tail(200).mean())
    return model.sample(samples)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("answers", nargs="*")
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=40_000)
    arguments = parser.parse_args()
    calls = rows(arguments.dataset)
    train, test = calls[calls["side"] == "train"], calls[calls["side"] == "test"]
    print("| rows | number | source | destination | type | edge id | call | start | response |")
    report("test graphs", train, test)
    for answer in arguments.answers:
        name, path = answer.split("=", 1)
        report(name, train, rows(path))
    if arguments.epochs:
        drawn = reference(train, arguments.epochs, arguments.samples, arguments.seed)
        report(f"ctgan, {arguments.epochs} epochs", train, drawn)


if __name__ == "__main__":
    main()
