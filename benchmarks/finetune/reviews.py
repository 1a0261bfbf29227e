"""Sentences of film reviews, with a label each: whether readers found it friendly."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from tokenizers import Tokenizer

from benchmarks.finetune import downloads

HELD_OUT, VALIDATION = 2_000, 500
CLEAR = 0.5
"""Sentences whose mean score, from −4 to 4, is nearer to zero are left out."""
PROMPTS = ("This film is terrible.", "This film is wonderful.")
"""What MiniLM compares a sentence of each label with before anything is learnt."""


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Sentences as tokens.

    Attributes:
      tokens: [count, length], zero behind the end.
      labels: [count], 1 where the score is above zero.
    """

    tokens: np.ndarray
    labels: np.ndarray

    def __getitem__(self, rows: slice) -> "Sentences":
        return Sentences(self.tokens[rows], self.labels[rows])


@dataclasses.dataclass(frozen=True)
class Data:
    """The sentences to learn from, to choose rates by, and to be tested on; and the prompts."""

    training: Sentences
    validation: Sentences
    held_out: Sentences
    prompts: np.ndarray

    def sets(self) -> dict[str, Sentences]:
        """All but the prompts, by name."""
        return {"training": self.training, "validation": self.validation, "held_out": self.held_out}


def tokenized(texts: Sequence[str], length: int) -> np.ndarray:
    """Texts as MiniLM's tokens, [count, length]."""
    tokenizer = Tokenizer.from_str(downloads.tokenizer().decode())
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    return np.array([e.ids for e in tokenizer.encode_batch(list(texts))], np.int32)


def load(
    length: int,
    seed: int = 0,
    tokenized: Callable[[Sequence[str], int], np.ndarray] = tokenized,
) -> Data:
    """All sentences with a clear score, permuted.

    Args:
      length: of a sentence in tokens, its beginning and end marked; longer ones are cut.
      seed: of the permutation.
      tokenized: texts as tokens of this length.
    """
    scores, texts = read()
    tokens = tokenized(texts, length)
    clear = np.flatnonzero(np.abs(scores) >= CLEAR)
    order = np.random.default_rng(seed).permutation(clear)
    every = Sentences(tokens[order], (scores[order] > 0).astype(np.int32))
    return Data(
        every[HELD_OUT + VALIDATION :],
        every[HELD_OUT : HELD_OUT + VALIDATION],
        every[:HELD_OUT],
        tokenized(PROMPTS, length),
    )


def read() -> tuple[np.ndarray, list[str]]:
    """The mean score and the text of every sentence."""
    lines = downloads.reviews().decode("utf-8").splitlines()
    fields = [line.split("\t") for line in lines]
    return np.array([float(score) for _, score, _ in fields]), [text for _, _, text in fields]
