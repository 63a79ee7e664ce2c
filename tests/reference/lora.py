"""Makes lora.json and lora/: a tiny Llama of `transformers` with adapters of `peft`, its logits, loss
and gradients, in f64, and the adapter as PEFT saves it.

Run by hand: `pip install torch transformers peft`, then `python tests/reference/lora.py`. Weights and
adapters are formulas of tensor number and index, as in transformer.py, whose model "llama" this is.

`python tests/reference/lora.py DIR` loads the adapter that our code has written to DIR instead, and
checks that PEFT reads the same adapter and computes the same logits. (TRACEGYM_LORA_OUT=DIR
cargo test adapters_are_those_of_peft writes it.)
"""

import json
import math
import pathlib
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
LAYERS, RANK, ALPHA = 2, 2, 3
MODULES = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NORMS = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
ORDER = ["attention_norm", "query", "key", "value", "output", "ffn_norm", "gate", "up", "down"]
DOCUMENTS = [
    ([3, 1, 4, 1, 5, 9, 2], [None, 4, 1, 5, 9, 2, 6]),
    ([10, 0, 8, 7, 7], [0, 8, None, 7, 0]),
]


def names():
    """Our order, as names of Hugging Face."""
    yield "model.embed_tokens.weight"
    for i in range(LAYERS):
        for part in ORDER:
            yield f"model.layers.{i}.{NORMS.get(part) or MODULES[part]}.weight"
    yield "model.norm.weight"
    yield "lm_head.weight"


def base():
    config = LlamaConfig(
        vocab_size=11, hidden_size=12, intermediate_size=10, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=2, head_dim=6, max_position_embeddings=16,
        rms_norm_eps=1e-5, tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 128,
        },
    )
    model = LlamaForCausalLM(config).double().eval()
    parameters = dict(model.named_parameters())
    for number, name in enumerate(names()):
        weight = parameters.pop(name)
        wave = [math.sin(0.7 * i * (number + 1) + number) for i in range(weight.numel())]
        values = [1 + 0.2 * w if "norm" in name else 0.4 * w for w in wave]
        values = torch.tensor(values, dtype=torch.float32).double()
        # Ours are [in, out].
        inner = weight.dim() == 2 and "layers" in name
        values = values.view(weight.shape[::-1]).T if inner else values.view(weight.shape)
        weight.data.copy_(values)
    assert not parameters, parameters
    return model


def adapted():
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
        target_modules=[module.split(".")[1] for module in MODULES.values()],
    )
    model = get_peft_model(base(), config)
    parameters = dict(model.named_parameters())
    number = 0
    for i in range(LAYERS):
        for module in MODULES.values():
            for matrix in "AB":
                name = f"base_model.model.model.layers.{i}.{module}.lora_{matrix}.default.weight"
                weight = parameters[name]
                wave = [0.3 * math.sin(0.9 * j + number) for j in range(weight.numel())]
                weight.data = torch.tensor(wave).float().double().view(weight.shape)
                weight.requires_grad_(True)
                number += 1
    return model.eval()


def run(model):
    all_logits = [model(torch.tensor([inputs])).logits[0] for inputs, _ in DOCUMENTS]
    losses = [
        -row.log_softmax(-1)[target]
        for rows, (_, targets) in zip(all_logits, DOCUMENTS)
        for row, target in zip(rows, targets)
        if target is not None
    ]
    return all_logits, torch.stack(losses).mean()


def summary(gradient):
    """Norm, and the sum weighted by a cosine: together they notice any change of an element."""
    flat = gradient.flatten()
    weight = torch.cos(torch.arange(len(flat), dtype=torch.float64))
    return [round(float(flat.norm()), 9), round(float((flat * weight).sum()), 9)]


model = adapted()
logits, loss = run(model)
if len(sys.argv) > 1:
    other = PeftModel.from_pretrained(base(), sys.argv[1]).double().eval()
    theirs, ours = [dict(m.named_parameters()) for m in (other, model)]
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    difference = max((a - b).abs().max().item() for a, b in zip(run(other)[0], logits))
    print("the same", len(ours), "tensors; largest difference of logits", difference)
    print(other.peft_config["default"])
    sys.exit()

loss.backward()
gradients = {
    name.replace(".default", ""): summary(weight.grad)
    for name, weight in model.named_parameters()
    if "lora" in name
}
result = {
    "logits": [[[round(v, 7) for v in row] for row in rows.tolist()] for rows in logits],
    "loss": round(loss.item(), 9),
    "gradients": gradients,
}
(HERE / "lora.json").write_text(
    json.dumps(result, separators=(",", ":")).replace('],"', '],\n"') + "\n"
)
model.float().save_pretrained(HERE / "lora")
(HERE / "lora" / "README.md").unlink(missing_ok=True)
print("loss", loss.item())
