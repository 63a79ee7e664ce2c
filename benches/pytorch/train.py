"""Yardstick for benches/training.rs: the same model, data shape and optimiser in plain PyTorch.

Run by hand: `pip install torch`, then `python benches/pytorch/train.py [--threads N] [--compile]`.
"""

import argparse
import math
import time

import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY, LENGTH, ROWS = 1024, 128, 16
SIZES = {"s": (128, 4, 4, 344), "m": (256, 6, 8, 688)}


class Norm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.gain, 1e-5)


class Block(nn.Module):
    def __init__(self, d, heads, d_ff):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.ffn_norm = Norm(d), Norm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.output = nn.Linear(d, d, bias=False)
        self.gate_up = nn.Linear(d, 2 * d_ff, bias=False)
        self.down = nn.Linear(d_ff, d, bias=False)

    def forward(self, x, cosines, sines):
        rows, length, d = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(rows, length, 3, self.heads, -1)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))

        def rotate(x):
            a, b = x.chunk(2, -1)
            return x * cosines + torch.cat((-b, a), -1) * sines

        mixed = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(rows, length, d))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, size):
        super().__init__()
        d, layers, heads, d_ff = SIZES[size]
        self.embedding = nn.Embedding(VOCABULARY, d)
        self.blocks = nn.ModuleList(Block(d, heads, d_ff) for _ in range(layers))
        self.norm = Norm(d)
        nn.init.normal_(self.embedding.weight, std=0.02)
        hd = d // heads
        frequency = 10_000.0 ** (-torch.arange(hd // 2) / (hd // 2))
        angle = (torch.arange(LENGTH)[:, None] * frequency).repeat(1, 2)
        self.register_buffer("cosines", angle.cos())
        self.register_buffer("sines", angle.sin())

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cosines, self.sines)
        return self.norm(x) @ self.embedding.weight.T


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="s", choices=SIZES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = Model(options.size).to(options.device)
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if not any(p is m for m in matrices)]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
    run = torch.compile(model) if options.compile else model
    data = torch.randint(VOCABULARY, (64, ROWS, LENGTH + 1), device=options.device)

    def step(index):
        tokens = data[index % len(data)]
        logits = run(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        assert math.isfinite(loss.item())

    for index in range(3):
        step(index)
    wall, cpu = time.perf_counter(), time.process_time()
    for index in range(options.steps):
        step(index)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tokens = options.steps * ROWS * LENGTH
    print(f"{options.size} threads={options.threads} compile={options.compile}: "
          f"{tokens / wall:.0f} tokens/s, {tokens / cpu:.0f} tokens per CPU second")


if __name__ == "__main__":
    main()
