"""Laplace's approximation: a Gaussian posterior around a minimum, from values alone."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._rows import gram_of, squared_norms
from zovh_jax._tree import Layout, scalar_dtype, vdot
from zovh_jax._types import Leaves, PyTree, ValueFn
from zovh_jax.directions import Explicit, gaussian, masked
from zovh_jax.estimators import interpolated_hessian
from zovh_jax.estimators.interpolation import Ridge
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.evaluators.query import query
from zovh_jax.operators import LowRankPlusScaled, Operator
from zovh_jax.plan import Plan
from zovh_jax.solvers.spectrum import Spectrum
from zovh_jax.stencils import three_point

ITERATIONS = 100
"""Of the prior's precision towards the largest evidence."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Laplace:
    """The posterior N(mean, P⁻¹) with P = Ĥ + αI; made by `laplace`.

    Attributes:
      mean: the parameters that it was made at.
      prior_precision: α.
      loss: the negative log likelihood at the mean.
      eigenvalues: of Ĥ along ``modes``, [m], none below zero.
      others: the eigenvalue of Ĥ across the modes, [], an average of the curvature that no query
        resolved.
      modes: orthonormal directions, a list of arrays [m, *shape], one for each perturbed leaf;
        zeros where a value was missing.
      layout: of the parameters; static.
      num_queries: values that it took; static.
    """

    mean: PyTree
    prior_precision: jax.Array
    loss: jax.Array
    eigenvalues: jax.Array
    others: jax.Array
    modes: Leaves
    layout: Layout = dataclasses.field(metadata={"static": True})
    num_queries: int = dataclasses.field(metadata={"static": True})

    @property
    def precision(self) -> Operator:
        """P as an operator on trees like params; zero on frozen leaves."""
        return self._function(lambda values: values)

    @property
    def num_determined(self) -> jax.Array:
        """How many parameters the data determined: Σ λ/(λ + α) over the modes.

        It is 0 where the posterior is the prior, and d where the prior does not matter. Of what
        lies across the modes the values told no more than its average.
        """
        measured = sum(squared_norms(u) for u in self.modes) > 0.5  # the others are zeros
        shares = self.eigenvalues / (self.eigenvalues + self.prior_precision)
        return jnp.sum(jnp.where(measured, shares, 0))

    def sample(self, key: jax.Array, num: int) -> PyTree:
        """Samples: a tree like params, with a leading axis [num]; frozen leaves are the mean's."""
        num = _checks.positive_int("num", num)
        z = gaussian().draw(_checks.key(key), self.layout, num, jnp.arange(num))
        deviations = iter(self._applied(lambda values: values**-0.5, z))

        def moved(x, on):
            there = jnp.broadcast_to(x, (num, *jnp.shape(x)))
            if not on:
                return there
            deviation = next(deviations)
            return (there.astype(deviation.dtype) + deviation).astype(there.dtype)

        leaves, treedef = jax.tree.flatten(self.mean)
        moves = [moved(x, on) for x, on in zip(leaves, self.layout.active, strict=True)]
        return jax.tree.unflatten(treedef, moves)

    def variance(self) -> PyTree:
        """The marginal variances: a tree like params, zero on frozen leaves."""
        return self._function(lambda values: 1 / values).diagonal()

    def log_evidence(self) -> jax.Array:
        """log p(data): −loss − ½α‖θ‖² + ½ d log α − ½ log det P, for the prior N(0, I/α)."""
        alpha = self.prior_precision
        leaves = self.layout.leaves(self.mean, "mean")
        size = self.layout.size
        log_det = jnp.sum(jnp.log(self.eigenvalues + alpha))
        log_det += (size - self.eigenvalues.shape[0]) * jnp.log(self.others + alpha)
        prior = size * jnp.log(alpha) - alpha * vdot(leaves, leaves)
        return -self.loss + (prior - log_det) / 2

    def _values(self, function: Any) -> tuple[jax.Array, jax.Array]:
        """A function of P's eigenvalues: across the modes, and how much more along them, [m]."""
        across = function(self.others + self.prior_precision)
        return across, function(self.eigenvalues + self.prior_precision) - across

    def _function(self, function: Any) -> LowRankPlusScaled:
        """A function of P, as an operator."""
        across, along = self._values(function)
        plan = Plan(None, Explicit(self.modes), num_directions=along.shape[0])
        return LowRankPlusScaled(plan, along, across, self.layout)

    def _applied(self, function: Any, vectors: Leaves) -> Leaves:
        """A function of P times vectors [num, *shape]."""
        across, along = self._values(function)
        dots = sum(gram_of(z, u) for z, u in zip(vectors, self.modes, strict=True)) * along
        return [
            across.astype(z.dtype) * z
            + jnp.tensordot(dots.astype(u.dtype), u, 1, precision="highest").astype(z.dtype)
            for z, u in zip(vectors, self.modes, strict=True)
        ]


def laplace(
    loss: ValueFn,
    params: PyTree,
    *,
    prior_precision: Any,
    num_directions: int,
    radius: Any,
    key: jax.Array,
    mask: PyTree = True,
    prior: Literal["trace"] | None = "trace",
    ridge: Ridge = 0.0,
    evaluate: Evaluator = vmapped(),
) -> Laplace:
    """A Gaussian posterior of the parameters, from values of the loss around its minimum.

    The Hessian is interpolated: it is the smallest change of its prior that explains the curvatures
    along K random directions. It is exact for a quadratic from K = d(d + 1)/2 on, in float32 from
    about a fifth more. With fewer, the posterior has the data's precision along what the directions
    show, and an average across them; `Laplace.num_determined` says how much of it is data. Negative
    curvature, which a minimum does not have, counts as none.

    Args:
      loss: the negative log likelihood, summed over the data (not its mean), without the prior's
        term, of a tree like params.
      params: the mean of the posterior: where loss(θ) + ½α‖θ‖² is least, or nearly.
      prior_precision: α, of the prior N(0, I/α); or "evidence", which takes the α of the largest
        `Laplace.log_evidence` with the mean and the Hessian as they are.
      num_directions: K.
      radius: μ; a curvature is a second difference, so take it large enough: about the width of the
        posterior.
      key: ``jax.random.key(seed)``.
      mask: a tree of bools like params, or a prefix of it: False leaves are frozen, as in a
        posterior of the last layer.
      prior: what is assumed of curvature that no direction shows: "trace", the average of what was
        measured, so that the trace is right; None, nothing: then what is not determined has the
        prior's precision.
      ridge: for noisy values; see `zo.estimators.interpolated_hessian`.
      evaluate: as for `zo.query`.

    Returns:
      `Laplace`, with ``sample``, ``variance``, ``precision``, ``log_evidence`` and
      ``num_determined``; 2K + 1 queries. A pair that is not finite is left out; if loss(params) is
      not, all that follows from curvature is NaN. Memory: 2K copies of the parameters. O(K²d + K³)
      time.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them, and as `zo.query`.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> loss = lambda x: 0.5 * jnp.sum(jnp.array([9.0, 99.0]) * (x - 1) ** 2)
      >>> posterior = zo.laplace(loss, jnp.ones(2), prior_precision=1.0, num_directions=3,
      ...                        radius=0.1, key=jax.random.key(0))
      >>> bool(jnp.allclose(posterior.variance(), jnp.array([0.1, 0.01]), rtol=1e-2))
      True
      >>> posterior.sample(jax.random.key(1), 5).shape
      (5, 2)
    """
    chosen = isinstance(prior_precision, str)
    if chosen and prior_precision != "evidence":
        raise ValueError(
            f'prior_precision must be a positive number or "evidence", got {prior_precision!r}.'
        )
    if not chosen:
        prior_precision = _checks.positive("prior_precision", prior_precision)
    params = jax.tree.map(jnp.asarray, params)
    pairs = query(
        loss,
        params,
        key,
        num_directions=num_directions,
        radius=radius,
        directions=masked(gaussian(), mask),
        stencil=three_point(),
        evaluate=evaluate,
        store_directions=True,
    )
    found = interpolated_hessian(pairs, params, prior=prior, ridge=ridge)
    assert isinstance(found, LowRankPlusScaled) and pairs.origin is not None
    rows = [jnp.where(_column(pairs.valid, u), u, 0) for u in found.plan.rows(found.layout)]
    plan = dataclasses.replace(found.plan, stored=found.layout.tree(rows))
    found = dataclasses.replace(found, plan=plan)
    spectrum = Spectrum.of(found, jnp.zeros((), scalar_dtype()))
    # Without the loss at the mean no curvature is known.
    known = jnp.where(jnp.isfinite(pairs.origin), 0, jnp.nan)
    eigenvalues, others = (jnp.maximum(x, 0) + known for x in (spectrum.values, spectrum.base))
    modes = [
        jnp.tensordot(spectrum.modes.T.astype(u.dtype), u, 1, precision="highest")
        for u in spectrum.rows
    ]
    layout = found.layout
    if chosen:
        weights = layout.leaves(params, "params")
        counts = eigenvalues, others, spectrum.num_others
        alpha = _of_largest_evidence(*counts, vdot(weights, weights))
    else:
        alpha = jnp.asarray(prior_precision, scalar_dtype())
    return Laplace(
        params, alpha, pairs.origin, eigenvalues, others, modes, layout, 2 * num_directions + 1
    )


def _column(x: jax.Array, like: jax.Array) -> jax.Array:
    """A vector [n] as a column before arrays [n, *shape]."""
    return x.reshape(-1, *(1,) * (like.ndim - 1))


def _of_largest_evidence(
    eigenvalues: jax.Array, others: jax.Array, num_others: int, square: jax.Array
) -> jax.Array:
    """α = γ/‖θ‖² with γ = Σ λ/(λ + α), by iteration (MacKay 1992)."""

    def better(_, alpha):
        gamma = jnp.sum(eigenvalues / (eigenvalues + alpha))
        gamma += num_others * others / (others + alpha)
        return jnp.maximum(gamma, tiny) / jnp.maximum(square, tiny)

    tiny = jnp.asarray(jnp.finfo(eigenvalues.dtype).tiny ** 0.25, eigenvalues.dtype)
    return jax.lax.fori_loop(0, ITERATIONS, better, jnp.ones((), eigenvalues.dtype))


__all__ = ["Laplace", "laplace"]
