"""Makes smollm2.json: token ids, logits and a log-probability of SmolLM2-135M-Instruct, by
`transformers` and PyTorch in f32 from the same GGUF file.

Run by hand: `pip install torch transformers gguf accelerate`, then
`python tests/reference/smollm2.py FILE.gguf`, where FILE.gguf is what `tracegym weights smollm2`
fetches. `transformers` reads tokenizer and weights of the GGUF file with the `gguf` package, which
shares no code with the reader that this checks.
"""

import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = (
    "<|im_start|>user\nService S_42 received 1,234 requests at 10:05. List the calls it makes, "
    "naïve ones first:\n\n  MS_7 -> MS_190 (rpc)\n<|im_end|>\n<|im_start|>assistant\n"
)
CONTINUATION = "MS_7 calls MS_190 over rpc, which takes 12 ms."

path = pathlib.Path(sys.argv[1])
at = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
tokenizer = AutoTokenizer.from_pretrained(**at)
model = AutoModelForCausalLM.from_pretrained(**at, dtype=torch.float32).eval()

prompt = tokenizer(PROMPT, add_special_tokens=True)["input_ids"]
continuation = tokenizer(CONTINUATION, add_special_tokens=False)["input_ids"]
with torch.no_grad():
    logits = model(torch.tensor([prompt + continuation])).logits[0].double()
last = logits[len(prompt) - 1]
top = last.topk(20)
rows = logits[len(prompt) - 1 : -1].log_softmax(-1)
log_probability = sum(row[token].item() for row, token in zip(rows, continuation))
result = {
    "prompt": PROMPT,
    "prompt_tokens": prompt,
    "continuation": CONTINUATION,
    "continuation_tokens": continuation,
    "top": [[i, round(v, 5)] for i, v in zip(top.indices.tolist(), top.values.tolist())],
    "log_probability": round(log_probability, 5),
}
out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps(result, ensure_ascii=False).replace(', "', ',\n"') + "\n")
print(model.config)
print(result)
