"""TraceGym and PyTorch side by side: training and cached decoding of the same models.

Run by hand on an idle machine: `pip install torch`, then

    python benches/pytorch/compare.py [--threads 1 2] [--rounds 2] [--sizes s m]

Rounds of both alternate, so that a machine that gets slower slows both. Of each the fastest round
counts; the slowest is shown too, as a measure of noise.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TRAINING_TOKENS = 4 * 2_048  # of one iteration of benches/training.rs
NEW_TOKENS = 64  # of each sequence of benches/decoding.rs
# As in the stages of a run; it helps both.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
BATCHES = (1, 32, 256)


def run(command, **variables):
    """Standard output of a command, which must succeed."""
    environment = {**os.environ, **HUGE_PAGES, **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed with exit code {done.returncode}")
    return done.stdout


def target():
    metadata = run(["cargo", "metadata", "--format-version", "1", "--no-deps"])
    return Path(json.loads(metadata)["target_directory"])


def ours(threads, sizes, criterion):
    """Tokens per second by (what, size, batch), from criterion's estimates."""
    pattern = f"/({'|'.join(sizes)})(/|$)"
    for bench in ("training", "decoding"):
        run(["cargo", "bench", "--bench", bench, "--", pattern], RAYON_NUM_THREADS=str(threads))

    def rate(path, tokens):
        estimates = json.loads((criterion / path / "new" / "estimates.json").read_text())
        return tokens / (estimates["mean"]["point_estimate"] / 1e9)

    for size in sizes:
        yield ("training", size, ""), rate(f"training/{size}", TRAINING_TOKENS)
        for batch in BATCHES:
            yield ("decoding", size, batch), rate(f"decoding/{size}/{batch}", batch * NEW_TOKENS)


def pytorch(threads, sizes, compiled):
    """The same from the programs beside this one."""
    for size in sizes:
        flags = ["--size", size, "--threads", str(threads)]
        for name, flag in [("", []), (" (compiled)", ["--compile"])][: 1 + compiled]:
            said = run([sys.executable, HERE / "train.py", *flags, *flag])
            yield ("training" + name, size, ""), float(re.search(r": (\d+) tokens/s", said)[1])
    said = run([sys.executable, HERE / "decode.py", "--threads", str(threads)])
    for size, batch, rate in re.findall(r"(\w+) batch (\d+): (\d+) tokens/s", said):
        if size in sizes:
            yield ("decoding", size, int(batch)), float(rate)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sizes", nargs="+", default=["s", "m"], choices=["s", "m"])
    parser.add_argument("--compile", action="store_true", help="training by torch.compile too")
    options = parser.parse_args()
    criterion = target() / "criterion"
    print("| what | size | sequences | threads | TraceGym, tokens/s | PyTorch | ratio |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for threads in options.threads:
        rates = defaultdict(lambda: ([], []))
        for _ in range(options.rounds):
            for key, rate in ours(threads, options.sizes, criterion):
                rates[key][0].append(rate)
            for key, rate in pytorch(threads, options.sizes, options.compile):
                rates[key][1].append(rate)
        for key, (left, right) in rates.items():
            what, size, batch = key
            left = left or rates["training", size, ""][0]
            shown = [f"{max(r):,.0f} ({min(r):,.0f})" for r in (left, right)]
            ratio = max(left) / max(right)
            cells = [what, size, batch, threads, *shown, f"{ratio:.2f}"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
