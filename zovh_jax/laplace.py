"""Laplace's approximation: a Gaussian posterior around a minimum, from values alone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._tree import layout_of, scalar_dtype, vdot
from zovh_jax._types import PyTree, ValueFn
from zovh_jax.directions import gaussian, masked
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.evaluators.query import query
from zovh_jax.operators import Operator
from zovh_jax.stencils import three_point
from zovh_jax.structures import Structure, interpolated
from zovh_jax.structures.structure import Spectral

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
      curvature: Ĥ, an operator whose ``eigenvalues`` are none below zero.
      num_queries: values that it took; static.
    """

    mean: PyTree
    prior_precision: jax.Array
    loss: jax.Array
    curvature: Spectral
    num_queries: int = dataclasses.field(metadata={"static": True})

    @property
    def precision(self) -> Operator:
        """P as an operator on trees like params; zero on frozen leaves."""
        return self.curvature.mapped(lambda values: values + self.prior_precision)

    @property
    def covariance(self) -> Operator:
        """P⁻¹ as an operator on trees like params; zero on frozen leaves."""
        return self.curvature.mapped(lambda values: 1 / (values + self.prior_precision))

    @property
    def num_determined(self) -> jax.Array:
        """How many parameters the data determined: Σ λ/(λ + α) over eigenvalues that were measured.

        It is 0 where the posterior is the prior, and d where the prior does not matter.
        """
        shares = _shares(self.curvature.eigenvalues, self.prior_precision)
        return jnp.sum(self.curvature.counts * jnp.where(self.curvature.measured, shares, 0))

    def sample(self, key: jax.Array, num: int) -> PyTree:
        """Samples: a tree like params, with a leading axis [num]; frozen leaves are the mean's."""
        num = _checks.positive_int("num", num)
        layout = self.curvature.layout
        z = gaussian().draw(_checks.key(key), layout, num, jnp.arange(num))
        root = self.curvature.mapped(lambda values: (values + self.prior_precision) ** -0.5)
        deviations = iter(root.apply(z))

        def moved(x, on):
            there = jnp.broadcast_to(x, (num, *jnp.shape(x)))
            if not on:
                return there
            deviation = next(deviations)
            return (there.astype(deviation.dtype) + deviation).astype(there.dtype)

        leaves, treedef = jax.tree.flatten(self.mean)
        moves = [moved(x, on) for x, on in zip(leaves, layout.active, strict=True)]
        return jax.tree.unflatten(treedef, moves)

    def variance(self) -> PyTree:
        """The marginal variances: a tree like params, zero on frozen leaves."""
        return self.covariance.diagonal()

    def log_evidence(self) -> jax.Array:
        """log p(data): −loss − ½α‖θ‖² + ½ d log α − ½ log det P, for the prior N(0, I/α)."""
        alpha = self.prior_precision
        leaves = self.curvature.layout.leaves(self.mean, "mean")
        log_det = self.curvature.total(lambda values: jnp.log(values / alpha + 1))
        return -self.loss - (alpha * vdot(leaves, leaves) + log_det) / 2


def laplace(
    loss: ValueFn,
    params: PyTree,
    *,
    prior_precision: Any,
    radius: Any,
    key: jax.Array,
    num_directions: int | None = None,
    structure: Structure | None = None,
    mask: PyTree = True,
    evaluate: Evaluator = vmapped(),
) -> Laplace:
    """A Gaussian posterior of the parameters, from values of the loss around its minimum.

    The Hessian has a shape of your choice (`zo.structures`). With fewer queries than that shape has
    unknowns, the posterior is that of an average curvature where nothing was measured;
    `Laplace.num_determined` says how much of it is data. Negative curvature, which a minimum does
    not have, counts as none.

    Args:
      loss: the negative log likelihood, summed over the data (not its mean), without the prior's
        term, of a tree like params.
      params: the mean of the posterior: where loss(θ) + ½α‖θ‖² is least, or nearly.
      prior_precision: α, of the prior N(0, I/α); or "evidence", which takes the α of the largest
        `Laplace.log_evidence` with the mean and the Hessian as they are.
      radius: μ; a curvature is a second difference, so take it large enough: about the width of the
        posterior along one direction, which is √d entries long where directions are random.
      key: ``jax.random.key(seed)``.
      num_directions: K, short for ``structure=zo.structures.interpolated(K)``.
      structure: in its place, ``diagonal()``, ``full()``, ``kronecker(K)``, or one of your own.
      mask: a tree of bools like params, or a prefix of it: False leaves are frozen, as in a
        posterior of the last layer.
      evaluate: as for `zo.query`.

    Returns:
      `Laplace`, with ``sample``, ``variance``, ``precision``, ``covariance``, ``log_evidence`` and
      ``num_determined``; two queries for each direction that the structure asks along, and one. A
      pair that is not finite is left out; if loss(params) is not, all that follows from curvature
      is NaN, an α by evidence too.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them, and as `zo.query`.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> loss = lambda x: 0.5 * jnp.sum(jnp.array([9.0, 99.0]) * (x - 1) ** 2)
      >>> posterior = zo.laplace(loss, jnp.ones(2), prior_precision=1.0, radius=0.1,
      ...                        structure=zo.structures.full(), key=jax.random.key(0))
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
    if (structure is None) == (num_directions is None):
        raise ValueError(
            "give either num_directions, the queries of zo.structures.interpolated, or structure; "
            f"got num_directions={num_directions!r} and structure={structure!r}."
        )
    if structure is None:
        structure = interpolated(_checks.positive_int("num_directions", num_directions))
    _checks.instance("structure", structure, Structure, "the structures of zo.structures")
    params = jax.tree.map(jnp.asarray, params)
    layout = layout_of(params, masked(gaussian(), mask).active)
    pairs = query(
        loss,
        params,
        key,
        num_directions=structure.num_pairs(layout),
        radius=radius,
        directions=masked(structure.family(), mask),
        stencil=three_point(),
        evaluate=evaluate,
    )
    assert pairs.origin is not None
    # Without the loss at the mean no curvature is known.
    known = jnp.where(jnp.isfinite(pairs.origin), 0, jnp.nan)
    curvature = structure.curvature(pairs, params).mapped(lambda values: values + known)
    if chosen:
        weights = layout.leaves(params, "params")
        alpha = _of_largest_evidence(curvature, vdot(weights, weights))
    else:
        alpha = jnp.asarray(prior_precision, scalar_dtype())
    return Laplace(params, alpha, pairs.origin, curvature, 2 * pairs.plan.size + 1)


def _shares(eigenvalues: jax.Array, alpha: jax.Array) -> jax.Array:
    """How much of the precision along each eigenvector the data made: λ/(λ + α)."""
    return eigenvalues / (eigenvalues + alpha)


def _of_largest_evidence(curvature: Spectral, square: jax.Array) -> jax.Array:
    """α = γ/‖θ‖² with γ = Σ λ/(λ + α), by iteration (MacKay 1992)."""

    def better(_, alpha):
        gamma = curvature.total(lambda values: _shares(values, alpha))
        return jnp.maximum(gamma, tiny) / jnp.maximum(square, tiny)

    dtype = curvature.eigenvalues.dtype
    tiny = jnp.asarray(jnp.finfo(dtype).tiny ** 0.25, dtype)
    return jax.lax.fori_loop(0, ITERATIONS, better, jnp.ones((), dtype))


__all__ = ["Laplace", "laplace"]
