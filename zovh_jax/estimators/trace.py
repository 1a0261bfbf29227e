"""The trace of the Hessian, with its standard error: the one fact about curvature that is cheap.

n queries give tr(H) to a relative error of about √(2/n)·‖H‖_F/tr(H), which for a Hessian without a
few dominating eigenvalues is 1/√(n d): a handful are enough. tr(H)/d·I is then a better estimate
of H than any average of u uᵀ until n is of the order of d.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._tree import scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax.estimators.weights import curvatures
from zovh_jax.queries import Queries, check_params


class TraceEstimate(NamedTuple):
    """An estimate of tr(H).

    Attributes:
      trace: the mean of uᵀHu as measured, []; zero without finite queries.
      standard_error: of that mean, []; infinite with fewer than two finite queries.
    """

    trace: jax.Array
    standard_error: jax.Array


def hessian_trace(queries: Queries, params: PyTree | None = None) -> TraceEstimate:
    """tr(∇²F_μ), and how far off it may be: the mean of 2 (F − f0)/μ² over directions.

    Pairs use (F⁺ + F⁻)/2 for F: only curvature is left, and along ±1 directions on a diagonal
    Hessian every pair gives tr(H) exactly. Forward queries see 2 uᵀ∇f/μ as well, which averages
    out and which the standard error shows. Bias: O(μ²) times fourth derivatives. Spends no queries.

    Args:
      queries: with a known f(θ): ``three_point()``, or ``origin=True``. Those that are not finite
        are dropped.
      params: a tree with the shapes of the parameters, to divide by ‖u‖²/d of each direction: for
        Gaussian directions the variance is then 2(‖H‖_F² − tr(H)²/d), not 2‖H‖_F².

    Raises:
      ValueError: for queries without f(θ).

    Source: the mean of (E8)'s coefficients; Hutchinson's estimator from values.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2 * jnp.array([1., 3.])), jnp.ones(2)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=4, radius=0.1,
      ...                    stencil=zo.stencils.three_point(),
      ...                    directions=zo.directions.rademacher())
      >>> trace, error = zo.estimators.hessian_trace(queries)
      >>> bool(abs(trace - 8) < 0.01), bool(error < 0.01)
      (True, True)
    """
    samples, valid = _samples(queries, params)
    return TraceAverage.init().add_samples(samples, valid, decay=1).estimate


def _samples(queries: Queries, params: PyTree | None) -> tuple[jax.Array, jax.Array]:
    """uᵀHu of each direction, [n], divided by ‖u‖²/d if params are given; and which are finite."""
    if queries.origins is None:
        raise ValueError(
            "the trace needs f(θ), to tell curvature from value: query with origin=True, pass "
            "value=f(params), or use zo.stencils.three_point()."
        )
    samples, valid = curvatures(queries)
    if params is not None:
        layout = check_params(queries, params)
        norms = queries.plan.squared_norms(layout)
        d = layout.size
        samples = samples * (d / jnp.where(norms > 0, norms, 1))
    return samples, valid


class TraceAverage(NamedTuple):
    """An exponential average of traces over rounds, for the state of an optimiser.

    It averages single directions' uᵀHu, so that their spread gives the standard error.

    Attributes:
      weight, weight_squares: Σ w and Σ w², over all directions so far.
      total, squares: Σ w x and Σ w x².

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> average = zo.estimators.TraceAverage.init()
      >>> for i in range(20):
      ...     queries = zo.query(f, x, jax.random.key(i), num_directions=4, radius=0.1, origin=True)
      ...     average = average.add(queries, x, decay=0.95)
      >>> trace, error = average.estimate
      >>> bool(abs(trace - 6) < 3 * error)
      True
    """

    weight: jax.Array
    weight_squares: jax.Array
    total: jax.Array
    squares: jax.Array

    @classmethod
    def init(cls) -> "TraceAverage":
        """Of nothing yet."""
        return cls(*(jnp.zeros((), scalar_dtype()) for _ in range(4)))

    def add(self, queries: Queries, params: PyTree | None = None, *, decay) -> "TraceAverage":
        """With one more round; what came before counts ``decay`` times as much as it did.

        Args:
          queries, params: as for `hessian_trace`.
          decay: in [0, 1].
        """
        return self.add_samples(*_samples(queries, params), decay=decay)

    def add_samples(self, samples: jax.Array, valid: jax.Array, *, decay) -> "TraceAverage":
        """As `add`, from uᵀHu of each direction, [n], zero where not ``valid``."""
        valid &= jnp.isfinite(jnp.square(samples))  # or the average would never be finite again
        samples = jnp.where(valid, samples, 0)
        n = jnp.sum(valid).astype(samples.dtype)
        decay = jnp.where(n > 0, jnp.asarray(decay, samples.dtype), 1)
        return TraceAverage(
            decay * self.weight + n,
            jnp.square(decay) * self.weight_squares + n,
            decay * self.total + jnp.sum(samples),
            decay * self.squares + jnp.sum(jnp.square(samples)),
        )

    @property
    def estimate(self) -> TraceEstimate:
        """The average, and its standard error if rounds are independent and the trace is still."""
        some = self.weight > 0
        weight = jnp.where(some, self.weight, 1)
        mean = self.total / weight
        effective = jnp.where(some, jnp.square(weight), 1) / jnp.where(some, self.weight_squares, 1)
        spread = jnp.maximum(self.squares / weight - jnp.square(mean), 0)
        error = jnp.sqrt(spread / jnp.maximum(effective - 1, 1e-3))
        return TraceEstimate(mean, jnp.where(effective > 1.5, error, jnp.inf))


__all__ = ["TraceAverage", "TraceEstimate", "hessian_trace"]
