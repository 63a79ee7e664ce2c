"""Makes transformer.json: logits, loss and gradients of tiny fixed models, by PyTorch in f64.

Run by hand: `pip install torch`, then `python tests/reference/transformer.py`. Weights are a formula
of tensor number and index, so that only results are stored. Written for clarity, head by head, and
not like the Rust code that it checks.
"""

import json
import math
import pathlib
import types

import torch

LAYERS, D_FF, EPS = 2, 10, 1e-5
MODELS = {
    # Our own models: tied embedding, d_model divided among the heads.
    "plain": types.SimpleNamespace(
        vocabulary=11, d=12, heads=2, kv_heads=1, hd=6, base=10_000.0, untied=False, scaling=None
    ),
    # What the Llama family adds. The three frequencies of a head fall into the three ranges of the
    # scaling: kept, in the passage, divided.
    "llama": types.SimpleNamespace(
        vocabulary=11, d=12, heads=4, kv_heads=2, hd=6, base=500.0, untied=True,
        scaling=types.SimpleNamespace(factor=8.0, low=1.0, high=4.0, original=128),
    ),
}
# Two documents: inputs, and the token after each where it is to be learnt.
DOCUMENTS = [
    ([3, 1, 4, 1, 5, 9, 2], [None, 4, 1, 5, 9, 2, 6]),
    ([10, 0, 8, 7, 7], [0, 8, None, 7, 0]),
]


def shapes(m):
    yield "token_embedding", (m.vocabulary, m.d)
    for i in range(LAYERS):
        yield f"layers.{i}.attention_norm", (m.d,)
        yield f"layers.{i}.query", (m.d, m.heads * m.hd)
        yield f"layers.{i}.key", (m.d, m.kv_heads * m.hd)
        yield f"layers.{i}.value", (m.d, m.kv_heads * m.hd)
        yield f"layers.{i}.output", (m.heads * m.hd, m.d)
        yield f"layers.{i}.ffn_norm", (m.d,)
        yield f"layers.{i}.gate", (m.d, D_FF)
        yield f"layers.{i}.up", (m.d, D_FF)
        yield f"layers.{i}.down", (D_FF, m.d)
    yield "final_norm", (m.d,)
    if m.untied:
        yield "unembedding", (m.vocabulary, m.d)


def fixed(number, name, shape):
    size = math.prod(shape)
    wave = [math.sin(0.7 * i * (number + 1) + number) for i in range(size)]
    values = [1 + 0.2 * w if name.endswith("norm") else 0.4 * w for w in wave]
    # f32 as in the file, then f64 so that the reference is exact.
    return torch.tensor(values, dtype=torch.float32).double().view(shape).requires_grad_()


def norm(x, gain):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS) * gain


def frequencies(m):
    """Radians per position of each pair; with Llama 3.1's scaling, by wavelength."""
    plain = [m.base ** (-2 * i / m.hd) for i in range(m.hd // 2)]
    if m.scaling is None:
        return torch.tensor(plain, dtype=torch.float64)
    s, scaled = m.scaling, []
    for frequency in plain:
        wavelength = 2 * math.pi / frequency
        if wavelength < s.original / s.high:
            scaled.append(frequency)
        elif wavelength > s.original / s.low:
            scaled.append(frequency / s.factor)
        else:
            smooth = (s.original / wavelength - s.low) / (s.high - s.low)
            scaled.append((1 - smooth) * frequency / s.factor + smooth * frequency)
    kinds = [a == b for a, b in zip(plain, scaled)], [a == b * s.factor for a, b in zip(plain, scaled)]
    assert kinds == ([True, False, False], [False, False, True]), (plain, scaled)
    return torch.tensor(scaled, dtype=torch.float64)


def rotate(m, x):
    """Rotary positions: pair (i, i + hd/2) turned by position · frequency."""
    rows = []
    for position, row in enumerate(x):
        pair = torch.complex(row[: m.hd // 2], row[m.hd // 2 :])
        angle = position * frequencies(m)
        turned = pair * torch.polar(torch.ones_like(angle), angle)
        rows.append(torch.cat([turned.real, turned.imag]))
    return torch.stack(rows)


def attention(m, x, w):
    length = len(x)
    hidden = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
    mixed = []
    for head in range(m.heads):
        group = head // (m.heads // m.kv_heads)
        query = rotate(m, (x @ w("query"))[:, head * m.hd : (head + 1) * m.hd])
        key = rotate(m, (x @ w("key"))[:, group * m.hd : (group + 1) * m.hd])
        value = (x @ w("value"))[:, group * m.hd : (group + 1) * m.hd]
        scores = (query @ key.T / math.sqrt(m.hd)).masked_fill(hidden, -math.inf)
        mixed.append(scores.softmax(-1) @ value)
    return torch.cat(mixed, -1) @ w("output")


def logits(m, weights, tokens):
    x = weights["token_embedding"][tokens]
    for i in range(LAYERS):
        w = lambda name: weights[f"layers.{i}.{name}"]
        x = x + attention(m, norm(x, w("attention_norm")), w)
        y = norm(x, w("ffn_norm"))
        x = x + (torch.nn.functional.silu(y @ w("gate")) * (y @ w("up"))) @ w("down")
    head = weights["unembedding" if m.untied else "token_embedding"]
    return norm(x, weights["final_norm"]) @ head.T


def summary(gradient):
    """Norm, and the sum weighted by a cosine: together they notice any change of an element."""
    flat = gradient.flatten()
    weight = torch.cos(torch.arange(len(flat), dtype=torch.float64))
    return [round(float(flat.norm()), 9), round(float((flat * weight).sum()), 9)]


def reference(m):
    weights = {name: fixed(n, name, shape) for n, (name, shape) in enumerate(shapes(m))}
    all_logits = [logits(m, weights, inputs) for inputs, _ in DOCUMENTS]
    losses = [
        -row.log_softmax(-1)[target]
        for rows, (_, targets) in zip(all_logits, DOCUMENTS)
        for row, target in zip(rows, targets)
        if target is not None
    ]
    loss = torch.stack(losses).mean()
    loss.backward()
    return {
        "logits": [[[round(v, 7) for v in row] for row in rows.tolist()] for rows in all_logits],
        "loss": round(loss.item(), 9),
        "gradients": {name: summary(w.grad) for name, w in weights.items()},
    }


result = {name: reference(m) for name, m in MODELS.items()}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(result, separators=(",", ":")).replace('],"', '],\n"') + "\n")
print(path, path.stat().st_size, "bytes, losses", [r["loss"] for r in result.values()])
