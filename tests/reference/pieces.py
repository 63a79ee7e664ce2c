"""Makes pieces.json: a tiny vocabulary as Llama 2 has it, learnt by `sentencepiece`, as GGUF
files list it (pieces, scores, types), and the ids that `sentencepiece` gives for some texts.

Run by hand: `pip install sentencepiece`, then `python tests/reference/pieces.py`.
"""

import io
import json
import pathlib

import sentencepiece

HERE = pathlib.Path(__file__).parent
# A text that does not change.
CORPUS = (HERE.parent.parent / "LICENSE-APACHE").read_text().splitlines()
TEXTS = [
    "the model of the service calls 1234 microservices",
    " leading and  double   spaces ",
    "naïve café, 東京 and a\ttab\nnewline",
    "def tokens(name): return {name: len(name) for name in names}",
    "",
    "s",
]

model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(CORPUS), model_writer=model, model_type="bpe", vocab_size=600,
    byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
    split_digits=True, character_coverage=0.99,
)
processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def kind(i):
    """GGUF's token types."""
    if processor.is_unknown(i):
        return 2
    if processor.is_control(i):
        return 3
    return 6 if processor.is_byte(i) else 1


ids = range(processor.vocab_size())
result = {
    "tokens": [processor.id_to_piece(i) for i in ids],
    "scores": [processor.get_score(i) for i in ids],
    "types": [kind(i) for i in ids],
    "texts": [[text, processor.encode(text)] for text in TEXTS],
}
path = HERE / "pieces.json"
path.write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")
print(path.stat().st_size, "bytes", result["texts"])
