"""Makes transformer.json: logits, loss and gradients of a tiny fixed model, by PyTorch in f64.

Run by hand: `pip install torch`, then `python tests/reference/transformer.py`. Weights are a formula
of tensor number and index, so that only results are stored. Written for clarity, head by head, and
not like the Rust code that it checks.
"""

import json
import math
import pathlib

import torch

VOCABULARY, D, LAYERS, HEADS, KV_HEADS, D_FF, BASE, EPS = 11, 12, 2, 2, 1, 10, 10_000.0, 1e-5
HD = D // HEADS
# Two documents: inputs, and the token after each where it is to be learnt.
DOCUMENTS = [
    ([3, 1, 4, 1, 5, 9, 2], [None, 4, 1, 5, 9, 2, 6]),
    ([10, 0, 8, 7, 7], [0, 8, None, 7, 0]),
]


def shapes():
    yield "token_embedding", (VOCABULARY, D)
    for i in range(LAYERS):
        yield f"layers.{i}.attention_norm", (D,)
        yield f"layers.{i}.query", (D, HEADS * HD)
        yield f"layers.{i}.key", (D, KV_HEADS * HD)
        yield f"layers.{i}.value", (D, KV_HEADS * HD)
        yield f"layers.{i}.output", (HEADS * HD, D)
        yield f"layers.{i}.ffn_norm", (D,)
        yield f"layers.{i}.gate", (D, D_FF)
        yield f"layers.{i}.up", (D, D_FF)
        yield f"layers.{i}.down", (D_FF, D)
    yield "final_norm", (D,)


def fixed(number, name, shape):
    size = math.prod(shape)
    wave = [math.sin(0.7 * i * (number + 1) + number) for i in range(size)]
    values = [1 + 0.2 * w if name.endswith("norm") else 0.4 * w for w in wave]
    # f32 as in the file, then f64 so that the reference is exact.
    return torch.tensor(values, dtype=torch.float32).double().view(shape).requires_grad_()


weights = {name: fixed(n, name, shape) for n, (name, shape) in enumerate(shapes())}


def norm(x, gain):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS) * gain


def rotate(x):
    """Rotary positions: pair (i, i + HD/2) turned by position · base^(-2i/HD)."""
    rows = []
    for position, row in enumerate(x):
        pair = torch.complex(row[: HD // 2], row[HD // 2 :])
        angle = position * BASE ** (-2 * torch.arange(HD // 2, dtype=torch.float64) / HD)
        turned = pair * torch.polar(torch.ones_like(angle), angle)
        rows.append(torch.cat([turned.real, turned.imag]))
    return torch.stack(rows)


def attention(x, w):
    length = len(x)
    hidden = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
    mixed = []
    for head in range(HEADS):
        group = head // (HEADS // KV_HEADS)
        query = rotate((x @ w("query"))[:, head * HD : (head + 1) * HD])
        key = rotate((x @ w("key"))[:, group * HD : (group + 1) * HD])
        value = (x @ w("value"))[:, group * HD : (group + 1) * HD]
        scores = (query @ key.T / math.sqrt(HD)).masked_fill(hidden, -math.inf)
        mixed.append(scores.softmax(-1) @ value)
    return torch.cat(mixed, -1) @ w("output")


def logits(tokens):
    x = weights["token_embedding"][tokens]
    for i in range(LAYERS):
        w = lambda name: weights[f"layers.{i}.{name}"]
        x = x + attention(norm(x, w("attention_norm")), w)
        y = norm(x, w("ffn_norm"))
        x = x + (torch.nn.functional.silu(y @ w("gate")) * (y @ w("up"))) @ w("down")
    return norm(x, weights["final_norm"]) @ weights["token_embedding"].T


all_logits = [logits(inputs) for inputs, _ in DOCUMENTS]
losses = [
    -row.log_softmax(-1)[target]
    for rows, (_, targets) in zip(all_logits, DOCUMENTS)
    for row, target in zip(rows, targets)
    if target is not None
]
loss = torch.stack(losses).mean()
loss.backward()


def summary(gradient):
    """Norm, and the sum weighted by a cosine: together they notice any change of an element."""
    flat = gradient.flatten()
    weight = torch.cos(torch.arange(len(flat), dtype=torch.float64))
    return [round(float(flat.norm()), 9), round(float((flat * weight).sum()), 9)]


result = {
    "logits": [[[round(v, 7) for v in row] for row in rows.tolist()] for rows in all_logits],
    "loss": round(loss.item(), 9),
    "gradients": {name: summary(w.grad) for name, w in weights.items()},
}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(result, separators=(",", ":")).replace('],"', '],\n"') + "\n")
print(path, path.stat().st_size, "bytes, loss", loss.item())
