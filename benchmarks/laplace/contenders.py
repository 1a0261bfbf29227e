"""The posteriors that are compared, each from a structure and so many queries."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import zovh_jax as zo
from benchmarks.laplace.tasks import Task, loss_of
from zovh_jax.structures.coordinates import Axes, unraveled
from zovh_jax.structures.interpolated import Modes
from zovh_jax.structures.kronecker import LeafByLeaf

MOST_PAIRS = 2_000
"""Interpolation solves a system of so many equations."""
FEW_PAIRS = 500
"""Of interpolations that lose: they are not run beyond."""
ENOUGH = 1.2
"""Pairs over d(d + 1)/2 that interpolation needs in float32."""


class Found(NamedTuple):
    """What a posterior tells.

    Attributes:
      precision: of all parameters, zero where frozen.
      log_evidence, determined: see `zo.Laplace`.
      samples: trees with a leading axis.
    """

    precision: jax.Array
    log_evidence: jax.Array
    determined: jax.Array
    samples: Any


@dataclasses.dataclass(frozen=True)
class DiagonalOfZoVH(zo.structures.Structure):
    """The diagonal of ZoVH's estimate, from pairs along Gaussian directions.

    Attributes:
      num_directions: K.
    """

    num_directions: int

    def family(self):
        return zo.directions.gaussian()

    def num_pairs(self, layout):
        return self.num_directions

    def curvature(self, queries, params):
        layout = queries.plan.layout(params)
        diagonal = zo.estimators.hessian(queries, params).diagonal()
        leaves = layout.leaves(diagonal, "the diagonal")
        h = jnp.maximum(jnp.concatenate([jnp.ravel(x) for x in leaves]), 0)
        return Axes(h, jnp.ones_like(h), jnp.ones(h.shape, bool), layout)


@dataclasses.dataclass(frozen=True)
class Contender:
    """A structure for a number of queries.

    Attributes:
      label: for tables.
      make: the structure from pairs, or None where it is not run.
      most: the pairs beyond which more tell nothing, from d.
      least: the fewest that it needs, from d.
      limit: the most that it is run with.
      networks_only: whether it is for posteriors of whole networks.
    """

    label: str
    make: Callable[[int], zo.structures.Structure]
    most: Callable[[int], int] = lambda d: 10**9
    least: Callable[[int], int] = lambda d: 1
    limit: int = 10**9
    networks_only: bool = False

    def runs(self, budgets: Sequence[int], dimension: int, whole: bool) -> dict[int, int]:
        """The pairs to ask with, and for each the least budget that affords them."""
        found: dict[int, int] = {}
        if whole or not self.networks_only:
            for budget in budgets:
                pairs = min((budget - 1) // 2, self.most(dimension))
                if self.least(dimension) <= pairs <= self.limit:
                    found.setdefault(pairs, budget)
        return found


def entries(d: int) -> int:
    """Unknowns of a Hessian."""
    return d * (d + 1) // 2


def enough(d: int) -> int:
    """Pairs with which interpolation is well conditioned."""
    return math.ceil(ENOUGH * entries(d))


s, u = zo.structures, zo.directions
CONTENDERS = {
    "interpolated": Contender("interpolated", s.interpolated, enough, limit=MOST_PAIRS),
    "interpolated_low_rank": Contender(
        "interpolated, rank one",
        lambda k: s.interpolated(k, directions=u.low_rank()),
        enough,
        limit=FEW_PAIRS,
        networks_only=True,
    ),
    "interpolated_hadamard": Contender(
        "interpolated, Hadamard of rank one",
        lambda k: s.interpolated(k, directions=u.hadamard(factored=True)),
        enough,
        limit=FEW_PAIRS,
        networks_only=True,
    ),
    "interpolated_by_layer": Contender(
        "interpolated, layer by layer",
        lambda k: s.interpolated(k, directions=LeafByLeaf(u.gaussian())),
        enough,
        limit=FEW_PAIRS,
        networks_only=True,
    ),
    "full": Contender("full", lambda k: s.full(), entries, entries),
    "kronecker": Contender("Kronecker", s.kronecker),
    "diagonal": Contender("diagonal", s.diagonal, lambda d: d),
    "diagonal_zovh": Contender("diagonal of ZoVH's", DiagonalOfZoVH),
}


def estimator(
    mask: list[bool], structure: zo.structures.Structure, num_samples: int
) -> Callable[..., Found]:
    """A compiled function of (params, inputs, labels, α, radius, key)."""

    @jax.jit
    def found(params, inputs, labels, alpha, radius, key):
        posterior = zo.laplace(
            loss_of(inputs, labels),
            params,
            prior_precision=alpha,
            structure=structure,
            radius=radius,
            key=key,
            mask=mask,
            evaluate=zo.evaluators.chunked(500),
        )
        return told(posterior, num_samples)

    return found


def exact(task: Task, num_samples: int) -> Found:
    """The posterior of the exact Hessian."""
    layout = zo.Plan(None, u.masked(u.gaussian(), task.mask)).layout(task.params)
    d = task.dimension
    curvature = Modes(
        jnp.append(jnp.asarray(task.eigenvalues, jnp.float32), 0),
        jnp.append(jnp.ones(d), 0),
        jnp.append(jnp.ones(d, bool), False),
        unraveled(jnp.asarray(task.basis.T, jnp.float32), layout),
        layout,
    )
    loss = loss_of(task.split.inputs, task.split.labels)(task.params)
    alpha = jnp.float32(task.prior_precision)
    return told(zo.Laplace(task.params, alpha, loss, curvature, 0), num_samples)


@functools.partial(jax.jit, static_argnums=1)
def told(posterior: zo.Laplace, num_samples: int) -> Found:
    """What is compared; samples of all posteriors are made of the same normal numbers."""
    return Found(
        posterior.precision.as_matrix(),
        posterior.log_evidence(),
        posterior.num_determined,
        posterior.sample(jax.random.key(0), num_samples),
    )
