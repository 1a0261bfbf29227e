"""Every transformation in a few configurations, and the small problem that they all run on."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo

K = 4
D = 7


def base_key():
    return jax.random.key(7)


def make_params(dtype=jnp.float32):
    return {
        "b": jnp.asarray([0.3, -0.2, 0.9], dtype),
        "w": jnp.asarray([[0.4, -1.0], [0.25, 0.1]], dtype),
    }


def objective(params):
    """Smooth, neither even nor quadratic; summed in the widest float, whatever the leaves are."""
    wide = jnp.result_type(float)
    flat = jnp.concatenate([x.astype(wide).reshape(-1) for x in jax.tree.leaves(params)])
    scales = jnp.arange(1, flat.size + 1, dtype=wide)
    return jnp.sum(scales * jnp.square(flat)) + jnp.sum(jnp.sin(flat)) + jnp.prod(jnp.cos(flat))


def ones_like(params):
    return jax.tree.map(jnp.ones_like, params)


def clip(params, step_size):
    """The projection onto a box, as a prox."""
    del step_size
    return jax.tree.map(lambda x: jnp.clip(x, -0.5, 0.5), params)


def explicit_gradient(num_directions, radius, *, key, **options):
    """zo_gradient along directions of the caller's."""
    rng = np.random.default_rng(0)

    def rows(x):
        return rng.normal(size=(num_directions, *x.shape)).astype(np.float32)

    directions = zo.directions.explicit(jax.tree.map(rows, make_params()))
    return zo.zo_gradient(num_directions, radius, key=key, directions=directions, **options)


def precondition(num_directions, radius, *, key, **options):
    """zo_gradient followed by scale_by_inverse_hessian with queries of its own."""
    other = jax.random.fold_in(key, 1)
    return optax.chain(
        zo.zo_gradient(num_directions, radius, key=key),
        zo.scale_by_inverse_hessian(num_directions, radius, key=other, **options),
    )


def in_subspaces(factory):
    """The factory with as many disjoint subspaces as num_directions coordinates allow."""

    def make(num_directions, radius, *, key, subspace_dimension=2, **options):
        return factory(
            num_subspaces=min(num_directions, D - 1) // subspace_dimension,
            radius=radius,
            key=key,
            subspace_dimension=subspace_dimension,
            **options,
        )

    return make


def in_a_box(bounded, factory):
    """The factory's optimiser in a box, which not all parameters start in."""

    def make(num_directions, radius, *, key, **options):
        inner = factory(0.1, num_directions=num_directions, radius=radius, key=key, **options)
        return bounded(inner, -1.0, 0.5)

    return make


def rounded(stochastic_rounding, factory):
    """The factory's optimiser, with updates that are rounded at random."""

    def make(num_directions, radius, *, key, **options):
        inner = factory(0.1, num_directions=num_directions, radius=radius, key=key, **options)
        return optax.chain(inner, stochastic_rounding(key=jax.random.fold_in(key, 1)))

    return make


def in_words(packed, factory):
    """The factory's optimiser, with a state of one array."""

    def make(num_directions, radius, *, key, **options):
        return packed(
            factory(0.1, num_directions=num_directions, radius=radius, key=key, **options)
        )

    return make


boxed_sgd = in_a_box(zo.bounded, zo.zo_sgd)
rounded_sgd = rounded(zo.stochastic_rounding, zo.zo_sgd)
packed_sgd = in_words(zo.packed, zo.zo_sgd)
sah_direction, sah = in_subspaces(zo.zo_sah_direction), in_subspaces(zo.zo_sah)

DEFAULTS = {
    zo.zo_newton: {"damping": 0.7},
    zo.scale_by_inverse_hessian: {"damping": 0.7},
    precondition: {"damping": 0.7},
    zo.zo_sgd: {"learning_rate": 0.1},
    zo.zoar: {"learning_rate": 0.1},
    zo.zovh: {"learning_rate": 0.1, "damping": 0.7},
    zo.radazo: {"learning_rate": 0.1},
    zo.zo_adamm: {"learning_rate": 0.1},
    zo.zo_signsgd: {"learning_rate": 0.1},
    zo.mezo: {"learning_rate": 0.1},
    zo.rspg: {"learning_rate": 0.1},
    zo.fzoo: {"learning_rate": 0.1},
    zo.zo_hizoo: {"smoothing": 0.1},
    zo.hizoo: {"learning_rate": 0.1, "smoothing": 0.1},
    zo.zoha: {"learning_rate": 0.1, "damping": 0.7},
    zo.spsa: {"learning_rate": 0.1},
    zo.spsa2: {"learning_rate": 0.1},
    sah: {"learning_rate": 0.1},
    zo.low_rank_newton: {"rank": 2},
    zo.quasi_newton: {"num_pairs": 2},
}
COPIES = {
    zo.radazo: 2,
    zo.zo_adamm: 3,
    zo.rspg: 1,
    zo.poem: 2,
    zo.diagonal_newton: 3,
    zo.zo_hizoo: 1,
    zo.hizoo: 1,
    zo.zoha: 1,
    zo.low_rank_newton: 5,
    zo.quasi_newton: 10,
    zo.scalar_newton: 1,
    boxed_sgd: 1,
}
"""Copies of the parameters in the state of those that keep any."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One configuration.

    Attributes:
      id: its name in the tests' output.
      factory: makes the transformation.
      options: its settings.
      queries: what a step must charge, with K = 4; a pair where the second step's is another.
      known: what the first must charge when ``value=f(θ)`` is passed.
    """

    id: str
    factory: Callable[..., optax.GradientTransformationExtraArgs]
    options: dict[str, Any]
    queries: int | tuple[int, int]
    known: int

    def make(self, **overrides):
        options = {"num_directions": K, "radius": 0.1, "key": base_key()}
        return self.factory(
            **{**options, **DEFAULTS.get(self.factory, {}), **self.options, **overrides}
        )

    def spent(self, num_steps) -> int:
        """Queries charged after one step or two."""
        each = self.queries if isinstance(self.queries, tuple) else (self.queries,) * 2
        return sum(each[:num_steps])

    @property
    def ignores_updates(self) -> bool:
        return self.factory is not zo.scale_by_inverse_hessian

    @property
    def copies(self) -> int:
        reuse = self.options.get("reuse")
        centers = self.options["history_size"] if reuse and reuse.needs_centers else 0
        return COPIES.get(self.factory, 0) + centers

    @property
    def traces(self) -> int:
        """How many transformations of the chain query."""
        return 2 if self.factory is precondition else 1


REUSE = {"history_size": 3}
STORED = {"store_directions": True}
CHUNKED = {"evaluate": zo.evaluators.chunked(2)}
RAGGED = {"evaluate": zo.evaluators.chunked(3)}
CENTRAL = {"stencil": zo.stencils.central()}
THREE = {"stencil": zo.stencils.three_point()}
ORIGIN = {"baseline": zo.baselines.origin()}
MEAN = {"baseline": zo.baselines.mean()}
WOODBURY = {"solver": zo.solvers.woodbury()}
CG = {"solver": zo.solvers.cg(max_steps=5), "bias_correction": False}
# The damping is above the estimates' most negative eigenvalue: a series that diverges gives zeros.
NEUMANN = {"solver": zo.solvers.neumann(num_terms=2), "damping": 1e4}
ORTHOGONAL = {"directions": zo.directions.orthogonal()}
DISCOUNTED = {"reuse": zo.reuse.discounted(0.5), "history_size": 3}
ADAPTIVE = {"reuse": zo.reuse.adaptive(), "history_size": 3}
IMPORTANCE = {"reuse": zo.reuse.importance(), "history_size": 3}
TWO_RADII = {"initial_hessian": 2.0, "gradient_radius": 0.2}
MASKED = {"directions": zo.directions.masked(zo.directions.gaussian(), {"b": False, "w": True})}
FROZEN = {"mask": {"b": False, "w": True}}
SWITCHING = {"switch_every": 1}
OF_3 = {"subspace_dimension": 3}
TO_ZERO = {"ridge_towards": "zero"}
COUPLED = {"pairing": "coupled"}

CASES = [
    Case("gradient", zo.zo_gradient, {}, 4, 4),
    Case("gradient-origin", zo.zo_gradient, ORIGIN, 5, 4),
    Case("gradient-orthogonal-chunked-reuse", zo.zo_gradient, ORTHOGONAL | CHUNKED | REUSE, 4, 4),
    Case("gradient-masked-stored-reuse", zo.zo_gradient, MASKED | STORED | REUSE, 4, 4),
    Case("gradient-explicit-reuse", explicit_gradient, REUSE, 4, 4),
    Case("gradient-central-origin", zo.zo_gradient, CENTRAL | ORIGIN, 8, 8),
    Case("gradient-central-chunked-reuse", zo.zo_gradient, CENTRAL | CHUNKED | REUSE, 8, 8),
    Case("gradient-three-chunked-reuse", zo.zo_gradient, THREE | CHUNKED | REUSE, 9, 8),
    Case("gradient-importance-masked-stored", zo.zo_gradient, IMPORTANCE | MASKED | STORED, 4, 4),
    Case("newton-decoupled-discounted", zo.zo_newton, {"decoupled": True} | DISCOUNTED, 4, 4),
    Case("newton-reuse", zo.zo_newton, REUSE, 4, 4),
    Case("newton-leaf-chunked", zo.zo_newton, {"structure": "leaf"} | CHUNKED, 4, 4),
    Case("newton-cg", zo.zo_newton, CG, 4, 4),
    Case("newton-three-origin-reuse", zo.zo_newton, THREE | ORIGIN | REUSE, 9, 8),
    Case("scale", zo.scale_by_inverse_hessian, {}, 4, 4),
    Case("precondition-neumann", precondition, NEUMANN, 8, 8),
    Case("precondition-woodbury-chunked-reuse", precondition, WOODBURY | CHUNKED | REUSE, 8, 8),
    Case("sgd", zo.zo_sgd, {}, 5, 4),
    Case("zoar", zo.zoar, {}, 4, 4),
    Case("zoar-stored-chunked", zo.zoar, STORED | CHUNKED, 4, 4),
    Case("shaped", zo.zo_gradient, {"shaping": zo.shaping.winsorised()} | ORIGIN | REUSE, 5, 4),
    Case("shaped-three", zo.zo_newton, {"shaping": zo.shaping.winsorised()} | THREE, 9, 8),
    Case("zoar-adaptive", zo.zoar, ADAPTIVE, 4, 4),
    Case("radazo-chunked-reuse", zo.radazo, CHUNKED | REUSE, 4, 4),
    Case("adamm-box-central", zo.zo_adamm, {"lower": -0.5, "upper": 0.5} | CENTRAL, 8, 8),
    Case("signsgd-votes-masked-mean", zo.zo_signsgd, {"majority_vote": True} | MASKED | MEAN, 4, 4),
    Case("mezo", zo.mezo, {}, 8, 8),
    Case("rspg-prox", zo.rspg, {"prox": clip, "smoothness": 1.0}, 5, 4),
    Case("fzoo-masked", zo.fzoo, MASKED, 5, 4),
    Case("poem-masked-chunked", zo.poem, MASKED | CHUNKED, 8, 8),
    Case("hizoo", zo.hizoo, {}, 9, 8),
    Case("hizoo-masked-chunked", zo.zo_hizoo, MASKED | CHUNKED, 9, 8),
    Case("zoha", zo.zoha, {}, 9, 8),
    Case("spsa", zo.spsa, {}, 8, 8),
    Case("spsa2-newton", zo.zo_spsa2, {}, 16, 16),
    Case("spsa2-ragged", zo.spsa2, TWO_RADII | RAGGED, 16, 16),
    Case("subspaces-of-3-ragged", sah_direction, OF_3 | TO_ZERO | RAGGED, (10, 4), 9),
    Case("subspaces-coupled-chunked", sah_direction, SWITCHING | COUPLED | CHUNKED, 11, 10),
    Case("sah", sah, {}, (11, 5), 10),
    Case("boxed-chunked", boxed_sgd, CHUNKED, 5, 4),
    Case("packed-chunked", packed_sgd, CHUNKED, 5, 4),
    Case("rounded-masked-chunked", rounded_sgd, MASKED | CHUNKED, 5, 4),
    Case("scalar", zo.scalar_newton, {}, 5, 4),
    Case("scalar-masked-chunked", zo.scalar_newton, MASKED | CHUNKED, 5, 4),
    Case("diagonal-masked-chunked", zo.diagonal_newton, MASKED | CHUNKED, 5, 4),
    Case("spikes-three-masked-ragged", zo.low_rank_newton, THREE | FROZEN | RAGGED, 18, 17),
    Case("quasi-masked-chunked", zo.quasi_newton, FROZEN | CHUNKED, 5, 4),
    Case("model-masked-chunked", zo.model_newton, FROZEN | CHUNKED, 4, 4),
    Case("zovh-chunked-reuse", zo.zovh, CHUNKED | REUSE, 4, 4),
]
BY_ID = {case.id: case for case in CASES}


def each_of(cases, names):
    """All of the cases; those not named are slow."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(case, id=case.id, marks=[] if case.id in names else [pytest.mark.slow])
            for case in cases
        ],
    )


every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)

# Other settings of what a case beside them covers: compiled in `make test-slow` only.
SECOND = (
    *("shaped", "shaped-three"),
    *("gradient-origin", "gradient-orthogonal-chunked-reuse", "gradient-central-origin"),
    *("gradient-central-chunked-reuse", "newton-decoupled-discounted", "newton-leaf-chunked"),
    *("newton-three-origin-reuse", "precondition-neumann", "zoar", "hizoo-masked-chunked"),
    *("spsa2-newton", "subspaces-of-3-ragged", "sah", "gradient", "gradient-masked-stored-reuse"),
    *("gradient-importance-masked-stored", "zoar-adaptive", "scalar", "scale", "newton-cg"),
    *("gradient-explicit-reuse", "spsa", "radazo-chunked-reuse", "fzoo-masked"),
    "scalar-masked-chunked",  # the walk of the diagonal and the spikes, with less beside it
)
compiled_case = each_of(CASES, BY_ID.keys() - {*SECOND})

# One of each kind, for the contracts that cost several compilations.
FEW = [
    BY_ID[name]
    for name in (
        "gradient-three-chunked-reuse",
        "newton-cg",
        "precondition-woodbury-chunked-reuse",
        "sgd",
        "zoar-stored-chunked",
        "zovh-chunked-reuse",
    )
]


def update_once(transformation, params, state, value_fn=objective, **extra):
    """One update whose incoming updates are ones."""
    return transformation.update(ones_like(params), state, params, value_fn=value_fn, **extra)


def jitted_step(transformation, value_fn=objective, **extra):
    """(params, state) -> (updates, state), compiled."""
    return jax.jit(lambda p, s: update_once(transformation, p, s, value_fn, **extra))


def descend(params, updates):
    """A small step, the same for transformations and optimisers."""
    return optax.apply_updates(params, jax.tree.map(lambda u: -0.01 * u, updates))


def trajectory(step, transformation, params, num_steps):
    """[(updates, params, state)] of a few steps."""
    state, steps = transformation.init(params), []
    for _ in range(num_steps):
        updates, state = step(params, state)
        params = descend(params, updates)
        steps.append((updates, params, state))
    return steps


def plain(tree):
    """The tree with typed keys as their integers, so that it can be compared."""

    def convert(x):
        is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return jax.tree.map(convert, tree)


def assert_close(actual, desired, rtol=1e-5, atol=1e-5):
    """Trees of the same structure, shapes, dtypes and (to rounding) numbers."""
    actual, desired = plain(actual), plain(desired)
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    for x, y in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jnp.floating):
            x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
            np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)
        else:
            np.testing.assert_array_equal(x, y)


def assert_equal(actual, desired):
    """As `assert_close`, to the last bit."""
    assert_close(actual, desired, rtol=0, atol=0)
