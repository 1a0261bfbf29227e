"""One layer's weights as the unknowns: the loss of the MNIST network, and its exact Hessian.

With one layer free, everything after it is piecewise linear in its weights (relu, max-pool,
dense), so the logits are too, and the Hessian of the cross-entropy is, wherever it exists, its
Gauss–Newton form: (1/B) Σ_b J_bᵀ(diag(p_b) − p_b p_bᵀ)J_b. That is VᵀV with ten rows an image,
whose trace and Frobenius norm are exact at any number of weights.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import victim

LAYERS = {"conv1": "Conv_0", "conv2": "Conv_1", "fc2": "Dense_1"}
"""The layers of the ZoVH paper's experiment, and their names in the network; kernels only."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factored:
    """The matrix VᵀV for ``factor`` V, [r, d]."""

    factor: jax.Array

    def mv(self, vector):
        return self.factor.T @ (self.factor @ vector)

    def trace(self):
        return jnp.sum(jnp.square(self.factor))

    def squared_norm(self):
        return jnp.sum(jnp.square(self.factor @ self.factor.T))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerLoss:
    """Mean cross-entropy of a batch as a function of one kernel, [d]; made by `load`.

    A pytree, to be an argument of compiled functions: as a constant, XLA would try to evaluate
    the network while it compiles.
    """

    params: dict[str, Any]
    images: jax.Array
    labels: jax.Array
    layer: str = dataclasses.field(metadata={"static": True})
    model: victim.CNN = dataclasses.field(metadata={"static": True})

    @property
    def weights(self) -> jax.Array:
        """The trained kernel, [d]."""
        return jnp.ravel(self.params["params"][self.layer]["kernel"])

    def __call__(self, weights: jax.Array) -> jax.Array:
        logits = self._logits(weights, self.images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, self.labels).mean()

    def gradient(self, weights: jax.Array) -> jax.Array:
        return jax.grad(self)(weights)

    def hessian(self, weights: jax.Array) -> Factored:
        def rows(image):
            logits = lambda w: self._logits(w, image[None])[0]  # noqa: E731
            jacobian = jax.jacrev(logits)(weights)
            p = jax.nn.softmax(logits(weights))
            return jnp.sqrt(p)[:, None] * (jacobian - p @ jacobian)

        factor = jax.lax.map(rows, self.images).reshape(-1, weights.size)
        return Factored(factor / np.sqrt(len(self.images)))

    def _logits(self, weights: jax.Array, images: jax.Array) -> jax.Array:
        tree = self.params["params"]
        old = tree[self.layer]
        new = old | {"kernel": weights.reshape(old["kernel"].shape)}
        return jnp.asarray(self.model.apply({"params": tree | {self.layer: new}}, images))


def load(folder: Path, settings: victim.Settings, batch: int, dtype: Any) -> dict[str, LayerLoss]:
    """The loss of a batch of held-out digits for each of `LAYERS`.

    Args:
      folder, settings: as for `victim.load_params`, which trains the network at the first call.
      batch: how many digits.
      dtype: of everything.
    """
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), victim.load_params(folder, settings))
    images, labels = (
        part[-victim.HELD_OUT :][:batch] for part in victim.load_digits(settings.seed)
    )
    model = victim.CNN(settings.channels, settings.hidden)
    return {
        name: LayerLoss(params, jnp.asarray(images, dtype), jnp.asarray(labels), layer, model)
        for name, layer in LAYERS.items()
    }
