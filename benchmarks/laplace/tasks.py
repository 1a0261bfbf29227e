"""Networks at their best on little data: the likelihood, the exact Hessian, what to predict.

Networks have tanh layers, without biases but for a constant input of each layer. A posterior of the
last layer takes the layers below as they were trained.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize
from sklearn import datasets

KNOWN = 8
"""Digits below it are learnt; the others are what a network has never seen."""
ROUNDS = 3
"""Of training and a new prior's precision."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is learnt.

    Attributes:
      title: its name.
      data: "cancer" or "digits".
      hidden: units of the layer in between.
      whole: whether the posterior is of all layers, not of the last one.
      train_size: examples to learn from.
    """

    title: str
    data: str
    hidden: int
    whole: bool
    train_size: int


@dataclasses.dataclass(frozen=True)
class Split:
    """Inputs and labels to learn from and to be tested on, and inputs of another kind."""

    inputs: np.ndarray
    labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray
    strange: np.ndarray


@dataclasses.dataclass(frozen=True)
class Task:
    """A trained network.

    Attributes:
      kind: what it is.
      split: its data.
      params: a matrix a layer, at the mode of the posterior.
      mask: which layers the posterior is of.
      prior_precision: α, of the largest evidence by the exact Hessian.
      eigenvalues, basis: of the exact Hessian of the negative log likelihood in the posterior's
        parameters, [d] and [d, d], float64; none below zero.
    """

    kind: Kind
    split: Split
    params: list[jax.Array]
    mask: list[bool]
    prior_precision: float
    eigenvalues: np.ndarray
    basis: np.ndarray

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.eigenvalues)


def load(kind: Kind, seed: int) -> Task:
    """Draws a split, trains, and finds the prior's precision.

    Both are made ``ROUNDS`` times in turn: the mode of the posterior with α, then α by MacKay's
    rule, from the exact Hessian there.
    """
    split = split_of(kind, seed)
    with jax.enable_x64(True):
        count = 1 if kind.data == "cancer" else KNOWN
        sizes = (split.inputs.shape[1], kind.hidden, count)
        keys = jax.random.split(jax.random.key(seed), 2)
        params = [
            jax.random.normal(k, (n + 1, m)) / np.sqrt(n + 1)
            for k, n, m in zip(keys, sizes, sizes[1:], strict=False)
        ]
        params = Training(split, [], params).mode(params, 1.0)
        fixed, free = ([], params) if kind.whole else (params[:1], params[1:])
        training, alpha = Training(split, fixed, free), 1.0
        for _ in range(ROUNDS):
            free = training.mode(free, alpha)
            eigenvalues, basis = training.spectrum(free)
            square = sum(float(jnp.sum(w**2)) for w in free)
            alpha = float(np.sum(eigenvalues / (eigenvalues + alpha))) / square
        free = training.mode(free, alpha)
        eigenvalues, basis = training.spectrum(free)
    params = [jnp.asarray(np.asarray(w), jnp.float32) for w in (*fixed, *free)]
    return Task(kind, split, params, [kind.whole, True], alpha, eigenvalues, basis)


def split_of(kind: Kind, seed: int) -> Split:
    """A random split; inputs of another kind are digits never learnt, or mixed patients."""
    rng = np.random.default_rng(seed)
    if kind.data == "digits":
        inputs, labels = datasets.load_digits(return_X_y=True)
        inputs = inputs / 16
        strange = inputs[labels >= KNOWN]
        inputs, labels = inputs[labels < KNOWN], labels[labels < KNOWN]
    else:
        inputs, labels = datasets.load_breast_cancer(return_X_y=True)
        inputs = (inputs - inputs.mean(0)) / inputs.std(0)
        strange = rng.permuted(inputs, axis=0)
    order = rng.permutation(len(labels))
    inputs, labels = (x[order] for x in (inputs.astype(np.float32), labels.astype(np.int32)))
    n = kind.train_size
    return Split(inputs[:n], labels[:n], inputs[n:], labels[n:], strange.astype(np.float32))


def logits(params: list[jax.Array], inputs: Any) -> jax.Array:
    """What a network says of inputs [n, features]: [n, classes]."""
    x = jnp.asarray(inputs, params[0].dtype)
    for w in params[:-1]:
        x = jnp.tanh(with_constant(x) @ w)
    found = with_constant(x) @ params[-1]
    if found.shape[-1] == 1:  # two classes: the first one's logit is zero
        found = jnp.concatenate([jnp.zeros_like(found), found], -1)
    return found


def with_constant(x: jax.Array) -> jax.Array:
    """The inputs and a one."""
    return jnp.concatenate([x, jnp.ones((*x.shape[:-1], 1), x.dtype)], -1)


def loss_of(inputs: Any, labels: Any) -> Callable[[list[jax.Array]], jax.Array]:
    """The negative log likelihood as a function of the parameters."""

    def loss(params):
        found = logits(params, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(found, labels).sum()

    return loss


class Training:
    """First-order training of some layers, those below fixed.

    Args:
      split: the data.
      fixed: the layers below.
      free: the other layers.
    """

    def __init__(self, split: Split, fixed: list, free: list):
        loss = loss_of(split.inputs, split.labels)
        _, self.unravel = ravel_pytree(free)

        def likelihood(x):
            return loss(fixed + self.unravel(x))

        def objective(x, alpha):
            return likelihood(x) + alpha / 2 * jnp.vdot(x, x)

        self.objective = jax.jit(jax.value_and_grad(objective))
        self.hessian = jax.jit(jax.hessian(likelihood))

    def mode(self, free: list, alpha: float) -> list:
        """The layers of the least loss + ½α‖θ‖², from those given."""
        found = minimize(
            lambda x: tuple(np.asarray(y, float) for y in self.objective(x, alpha)),
            np.asarray(ravel_pytree(free)[0]),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 5000, "maxfun": 10_000, "ftol": 1e-14, "gtol": 1e-7},
        )
        return self.unravel(jnp.asarray(found.x))

    def spectrum(self, free: list) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of the negative log likelihood's Hessian."""
        values, basis = np.linalg.eigh(np.asarray(self.hessian(ravel_pytree(free)[0])))
        return np.maximum(values, 0), basis
