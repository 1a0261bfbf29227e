"""What a posterior is worth: its predictions, and its distance from the exact one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.laplace.contenders import Found
from benchmarks.laplace.tasks import Task, logits, loss_of

BINS = 10
"""Of the calibration error."""
SMALL = 1e-2
"""The part of a sample's deviation along which differences are taken."""


@jax.jit
def sampled(samples: Any, inputs: Any) -> jax.Array:
    """Mean probabilities over samples, [n, classes]."""
    return jnp.mean(jax.lax.map(lambda p: jax.nn.softmax(logits(p, inputs)), samples), 0)


@jax.jit
def linearised(params: Any, samples: Any, inputs: Any) -> jax.Array:
    """The same of the network that is linear in its parameters, as it is near their mean.

    Its logits are f(θ) + (f(θ + hδ) − f(θ − hδ))/2h at θ + δ: values alone.
    """

    def at(sample):
        ends = [
            logits([w + h * (x - w) for w, x in zip(params, sample, strict=True)], inputs)
            for h in (SMALL, -SMALL)
        ]
        return jax.nn.softmax(logits(params, inputs) + (ends[0] - ends[1]) / (2 * SMALL))

    return jnp.mean(jax.lax.map(at, samples), 0)


def of_probabilities(task: Task, test: Any, strange: Any) -> dict[str, float]:
    """Scores of probabilities for the test's inputs and for those of another kind.

    Returns:
      ``nll``, the mean of −log p(label); ``ece``, the expected calibration error of the likeliest
      class; ``brier``; ``accuracy``; ``auroc``, of the entropy as a sign of another kind.
    """
    test, strange = (np.maximum(np.asarray(p, float), 1e-12) for p in (test, strange))
    labels = task.split.test_labels
    hit = test[np.arange(len(labels)), labels]
    confidence, right = test.max(1), test.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, confidence - right, BINS)
    entropies = [-(p * np.log(p)).sum(1) for p in (test, strange)]
    kinds = np.repeat([0, 1], [len(test), len(strange)])
    return {
        "nll": float(-np.log(hit).mean()),
        "ece": float(np.abs(gaps).sum() / len(labels)),
        "brier": float(((test - np.eye(test.shape[1])[labels]) ** 2).sum(1).mean()),
        "accuracy": float(right.mean()),
        "auroc": float(roc_auc_score(kinds, np.concatenate(entropies))),
    }


def of_map(task: Task) -> dict[str, float]:
    """Scores of the mode's own predictions; as a posterior it would be infinitely far off."""
    data = task.split.test_inputs, task.split.strange
    found = of_probabilities(task, *(jax.nn.softmax(logits(task.params, x)) for x in data))
    both = {f"{name}_linearised": value for name, value in found.items()}
    return {"divergence": np.inf, "evidence_gap": np.inf, "determined": 0.0} | found | both


def of_posterior(task: Task, found: Found) -> dict[str, float]:
    """Scores of a posterior.

    In a last layer, where logits are linear, the linearised predictive is the sampled one.

    Returns:
      ``divergence``; ``evidence_gap``, the error of the log evidence; ``determined``, how many
      parameters the data determined; `of_probabilities` by samples, and ``…_linearised``.
    """
    data = task.split.test_inputs, task.split.strange
    by_samples = of_probabilities(task, *(sampled(found.samples, x) for x in data))
    linear = by_samples
    if task.kind.whole:
        probabilities = (linearised(task.params, found.samples, x) for x in data)
        linear = of_probabilities(task, *probabilities)
    posterior = {
        "divergence": divergence(task, found.precision),
        "evidence_gap": float(found.log_evidence) - log_evidence(task),
        "determined": float(found.determined),
    }
    return posterior | by_samples | {f"{name}_linearised": x for name, x in linear.items()}


def divergence(task: Task, precision: Any) -> float:
    """KL from the exact posterior to the one with this precision, nats."""
    on = np.concatenate(
        [np.full(w.size, used) for w, used in zip(task.params, task.mask, strict=True)]
    )
    matrix = np.asarray(precision, float)[np.ix_(on, on)]
    values = task.eigenvalues + task.prior_precision
    trace = np.sum(task.basis * (matrix @ task.basis) / values)
    log_dets = np.linalg.slogdet(matrix)[1], np.log(values).sum()
    return float(trace - task.dimension - log_dets[0] + log_dets[1]) / 2


def log_evidence(task: Task) -> float:
    """By the exact Hessian in double precision."""
    on = [w for w, used in zip(task.params, task.mask, strict=True) if used]
    square = sum(float(np.sum(np.asarray(w, float) ** 2)) for w in on)
    log_det = np.log1p(task.eigenvalues / task.prior_precision).sum()
    loss = float(loss_of(task.split.inputs, task.split.labels)(task.params))
    return -loss - (task.prior_precision * square + log_det) / 2
