"""Yardstick for benches/decoding.rs: cached decoding of the same model in plain PyTorch.

Run by hand: `pip install torch`, then `python benches/pytorch/decode.py [--threads N]`.
"""

import argparse
import time

import torch
import torch.nn.functional as F

VOCABULARY, NEW_TOKENS = 1500, 64
SIZES = {"s": (128, 4, 4, 344), "m": (256, 6, 8, 688)}


def weights(size):
    d, layers, heads, d_ff = SIZES[size]
    make = lambda *shape: torch.randn(*shape) * 0.02
    blocks = [
        {
            "attention_norm": torch.ones(d),
            "qkv": make(d, 3 * d),
            "output": make(d, d),
            "ffn_norm": torch.ones(d),
            "gate_up": make(d, 2 * d_ff),
            "down": make(d_ff, d),
        }
        for _ in range(layers)
    ]
    return {"embedding": make(VOCABULARY, d), "norm": torch.ones(d), "blocks": blocks}, heads


@torch.inference_mode()
def run(size, batch):
    model, heads = weights(size)
    d = model["embedding"].shape[1]
    hd = d // heads
    frequency = 10_000.0 ** (-torch.arange(hd // 2) / (hd // 2))
    angle = (torch.arange(NEW_TOKENS)[:, None] * frequency).repeat(1, 2)
    cosines, sines = angle.cos(), angle.sin()
    caches = [
        (torch.zeros(batch, heads, NEW_TOKENS, hd), torch.zeros(batch, heads, NEW_TOKENS, hd))
        for _ in model["blocks"]
    ]
    tokens = torch.ones(batch, dtype=torch.long)
    for position in range(NEW_TOKENS):
        x = model["embedding"][tokens]
        for block, (keys, values) in zip(model["blocks"], caches):
            h = F.rms_norm(x, (d,), block["attention_norm"], 1e-5)
            q, k, v = (h @ block["qkv"]).view(batch, 3, heads, hd).unbind(1)

            def rotate(x):
                a, b = x.chunk(2, -1)
                return x * cosines[position] + torch.cat((-b, a), -1) * sines[position]

            keys[:, :, position] = rotate(k)
            values[:, :, position] = v
            k, v = keys[:, :, : position + 1], values[:, :, : position + 1]
            mixed = F.scaled_dot_product_attention(rotate(q)[:, :, None], k, v)
            x = x + mixed.reshape(batch, d) @ block["output"]
            h = F.rms_norm(x, (d,), block["ffn_norm"], 1e-5)
            gate, up = (h @ block["gate_up"]).chunk(2, -1)
            x = x + (F.silu(gate) * up) @ block["down"]
        logits = F.rms_norm(x, (d,), model["norm"], 1e-5) @ model["embedding"].T
        top, ids = (logits / 0.8).topk(50)
        choice = torch.multinomial(top.softmax(-1), 1)
        tokens = ids.gather(1, choice)[:, 0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    for size in SIZES:
        for batch in (1, 32, 256):
            run(size, batch)
            best = 0.0
            for _ in range(3):
                started = time.perf_counter()
                run(size, batch)
                best = max(best, batch * NEW_TOKENS / (time.perf_counter() - started))
            print(f"{size} batch {batch}: {best:.0f} tokens/s")


if __name__ == "__main__":
    main()
