"""The trace of the Hessian, with its standard error: the one fact about curvature that is cheap.

n exact queries give tr(H) to a relative error of about √(2/n)·‖H‖_F/tr(H). That is of order
1/√(n d) unless a few eigenvalues dominate, so a handful are enough. tr(H)/d·I is a better estimate
of H than any average of u uᵀ until n is of the order of d.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._tree import scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax.estimators.weights import curvatures
from zovh_jax.queries import Queries, check_params


class TraceEstimate(NamedTuple):
    """An estimate of tr(H).

    Attributes:
      trace: the mean of uᵀHu as measured, []; zero without finite queries.
      standard_error: of that mean, []; infinite with fewer than two finite queries. `hessian_trace`
        and `TraceAverage` say how it counts an error of f(θ), which a round's directions share.
    """

    trace: jax.Array
    standard_error: jax.Array


def hessian_trace(
    queries: Queries, params: PyTree | None = None, *, noise: Any = None
) -> TraceEstimate:
    """tr(∇²F_μ), and how far off it may be: the mean of 2 (F − f0)/μ² over directions.

    Pairs use (F⁺ + F⁻)/2 for F: only curvature is left, and along ±1 directions on a diagonal
    Hessian every pair gives tr(H) exactly. Forward queries see 2 uᵀ∇f/μ as well, which averages
    out and which the standard error shows. Bias: O(μ²) times fourth derivatives. Spends no queries.

    On a random objective whose rounds have common examples and keys it is the sampled objective's
    trace, without noise; ``noise`` is for errors that are independent from query to query.

    The standard error. A sample is x_k = τ_k + (2/μ²)(ε_k − ε_0), where τ_k differs from direction
    to direction, ε_k is the error of F_k (of variance σ², σ²/2 for pairs) and ε_0, that of f(θ), is
    the same for all n directions of a round: it does not average out, and the spread of the samples
    does not show it. With s² for that spread,

      Var(mean) = s²/n + 4σ²/μ⁴,  s² = Var(τ) + c σ²/μ⁴,  c = 2 for pairs, 4 for forward queries.

    One round cannot tell Var(τ) from σ. Unless ``noise`` says what σ is, all of the spread is taken
    for noise, which makes s² (1/n + 4/c): an upper bound, reached where the directions make no
    difference, and √(1 + 4n/c) times too large where the values are exact. Where the n directions
    come from R rounds, each round has an ε_0 of its own, and the second term is divided by R.

    Args:
      queries: with a known f(θ): ``three_point()``, or ``origin=True``. Those that are not finite
        are dropped.
      params: a tree with the shapes of the parameters, to divide by ‖u‖²/d of each direction: for
        Gaussian directions the variance is then 2(‖H‖_F² − tr(H)²/d), not 2‖H‖_F².
      noise: σ, the standard deviation of a value's error, the same for all values and for f(θ); 0
        for exact values. None: unknown.

    Raises:
      ValueError: for queries without f(θ), or a negative noise.

    Source: twice the mean of (E8)'s coefficients; Hutchinson's estimator from values.

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
    if noise is not None:
        noise = jnp.asarray(_checks.nonnegative("noise", noise), scalar_dtype())
    samples, factors, valid = _samples(queries, params)
    trace, error = TraceAverage.init().add_samples(samples, valid, decay=1).estimate
    shared = _shared_variance(queries, samples, factors, valid, noise)
    return TraceEstimate(trace, jnp.sqrt(jnp.square(error) + shared))


def _shared_variance(
    queries: Queries, samples: jax.Array, factors: jax.Array, valid: jax.Array, noise: Any
) -> jax.Array:
    """What the errors of f(θ), one a round, add to the variance of the mean of samples, [].

    Round r, with a share p_r of all samples, contributes p_r² v_r with v_r = 4σ²/μ_r⁴. Of that the
    spread of all samples, which contains the differences between rounds, shows p_r (1 − p_r) v_r/n
    already.
    """
    shape = (queries.plan.num_rounds or 1, queries.plan.num_directions)
    samples, factors, mask, radii = (
        x.reshape(shape) for x in (samples, factors, valid, queries.radii)
    )
    count = mask.astype(samples.dtype)
    by_round = jnp.sum(count, 1)
    each = jnp.maximum(by_round, 1)
    total = jnp.maximum(jnp.sum(by_round), 1)
    # ε_0 enters a sample as 2/μ² times its factor.
    steps = 2 / jnp.square(radii[:, 0]) * jnp.sum(count * factors, 1) / each
    if noise is None:
        mean = jnp.sum(count * samples, 1) / each
        deviations = jnp.where(mask, (samples - mean[:, None]) / factors, 0) * jnp.square(radii)
        degrees = jnp.sum(jnp.maximum(by_round - 1, 0))
        c = 2 if queries.stencil.paired else 4
        square = jnp.sum(jnp.square(deviations)) / jnp.maximum(degrees, 1) / c
    else:
        square = jnp.square(noise)
    share = by_round / total
    variance = square * jnp.square(steps)
    return jnp.maximum(jnp.sum((jnp.square(share) - share * (1 - share) / total) * variance), 0)


def _samples(queries: Queries, params: PyTree | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """uᵀHu times a factor, the factor, and which of them are finite: [n] each.

    The factor is d/‖u‖² if params are given, else 1.
    """
    if queries.origins is None:
        raise ValueError(
            "the trace needs f(θ), to tell curvature from value: query with origin=True, pass "
            "value=f(params), or use zo.stencils.three_point()."
        )
    samples, valid = curvatures(queries)
    factors = jnp.ones_like(samples)
    if params is not None:
        layout = check_params(queries, params)
        norms = queries.plan.squared_norms(layout)
        factors = layout.size / jnp.where(norms > 0, norms, 1)
    return samples * factors, factors, valid


class TraceAverage(NamedTuple):
    """An exponential average of traces over rounds, for the state of an optimiser.

    It averages single directions' uᵀHu, so that their spread gives the standard error. That error
    takes f(θ) for exact in each round: it is what the directions and the other values' noise make.
    With noisy values, of standard deviation σ, f(θ)'s own error adds (4σ²/μ⁴)/R to its square, R
    the effective number of rounds; `hessian_trace` with ``noise=`` says how much that is in one.
    (A bound that allows for noise would shorten the first steps of an optimiser on exact values.)

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
        """An average of no rounds."""
        return cls(*(jnp.zeros((), scalar_dtype()) for _ in range(4)))

    def add(self, queries: Queries, params: PyTree | None = None, *, decay) -> "TraceAverage":
        """The average with one more round; earlier ones count ``decay`` times as much as before.

        Args:
          queries, params: as for `hessian_trace`.
          decay: in [0, 1].
        """
        samples, _, valid = _samples(queries, params)
        return self.add_samples(samples, valid, decay=decay)

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
        """The average, and its standard error if f(θ) is exact and the trace does not change."""
        some = self.weight > 0
        weight = jnp.where(some, self.weight, 1)
        mean = self.total / weight
        effective = jnp.where(some, jnp.square(weight), 1) / jnp.where(some, self.weight_squares, 1)
        spread = jnp.maximum(self.squares / weight - jnp.square(mean), 0)
        error = jnp.sqrt(spread / jnp.maximum(effective - 1, 1e-3))
        return TraceEstimate(mean, jnp.where(effective > 1.5, error, jnp.inf))


__all__ = ["TraceAverage", "TraceEstimate", "hessian_trace"]
