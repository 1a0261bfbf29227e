"""What of SmolLM2 is trained, all or adapters, to say whether a sentence was terrible or great."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tokenizers import Tokenizer, models, pre_tokenizers

import zovh_jax as zo
from benchmarks.finetune import downloads, smollm2
from benchmarks.finetune.reviews import Data
from benchmarks.finetune.trained import CHUNK, LORA_RANK, Trained, inputs_of

LENGTH = 40
"""Tokens of a sentence with what is asked behind it; one sentence in nine is longer and cut."""
ASKED = " It was"
"""Stands behind every sentence."""
ANSWERS = (" terrible", " great")
"""The words of the two labels; the logits are those of their tokens, to come next."""


def everything(data: Data) -> Trained:
    """All 135 million parameters."""
    return asked(data, nnx.Linear, nnx.Param)


def adapters(data: Data) -> Trained:
    """LoRA of rank 4 on queries and values."""
    return asked(data, functools.partial(nnx.LoRALinear, lora_rank=LORA_RANK), nnx.LoRAParam)


TRAINED: dict[str, Callable[[Data], Trained]] = {"everything": everything, "adapters": adapters}


def asked(data: Data, adapted: Callable[..., Any], what: Any) -> Trained:
    """The parameters that a filter of nnx picks; the rest stays."""
    content = downloads.smollm2()
    encode = tokenizer(content)
    words = [token for answer in ANSWERS for token in encode.encode(answer).ids]
    if len(words) != len(ANSWERS):
        raise ValueError(f"Each of {ANSWERS} must be one token; they are {words}.")
    model = smollm2.pretrained(content, adapted)
    graph, params, rest = nnx.split(model, what, ...)  # type: ignore[misc]

    def logits(params: Any, tokens: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, rest).answers(tokens, words)

    inputs = inputs_of(data, jnp.asarray)
    some = inputs.training[:1]
    # The layers are stacks: each wants factors of its own.
    explanation = zo.explain(
        lambda params: jnp.sum(logits(params, some)), params, zo.directions.low_rank()
    )
    return Trained(params, logits, inputs, explanation.split, CHUNK)


def tokenized(texts: Sequence[str], length: int) -> np.ndarray:
    """Texts as tokens with what is asked behind them, [count, length], zero behind the end.

    Long texts are cut so that what is asked is whole.
    """
    encode = tokenizer(downloads.smollm2())
    behind = encode.encode(ASKED).ids
    tokens = np.zeros((len(texts), length), np.int32)
    for row, found in zip(tokens, encode.encode_batch([x.strip() for x in texts]), strict=True):
        ids = found.ids[: length - len(behind)] + behind
        row[: len(ids)] = ids
    return tokens


def tokenizer(content: bytes) -> Tokenizer:
    """That of a GGUF file: pairs of bytes, digits one by one."""
    names = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")
    tokens, merges = smollm2.facts(content, *names)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocabulary, [tuple(pair.split(" ")) for pair in merges]))
    digits = pre_tokenizers.Digits(individual_digits=True)
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return made
