"""Every golden number to 1e-9 in double precision, through the public names."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo

GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "zovh_reference.npz")
HESSIANS = [
    "hess0",
    pytest.param("hess1", marks=pytest.mark.slow),
    pytest.param("hess2", marks=pytest.mark.slow),
]
# Other dimensions and numbers of directions are other programs.
TRAJECTORIES = [
    *(("zovh", "traj1"), ("zoar", "traj0"), ("zoar_radazo", "traj1")),
    *(pytest.param("zovh", name, marks=pytest.mark.slow) for name in ("traj0", "traj2")),
    *(pytest.param("zoar", name, marks=pytest.mark.slow) for name in ("traj1", "traj2")),
    *(pytest.param("zoar_radazo", name, marks=pytest.mark.slow) for name in ("traj0", "traj2")),
]

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")


def quadratic(x):
    return 0.5 * jnp.sum(x**2)


def levy(x):
    w = 1 + (x - 1) / 4
    first = jnp.sin(jnp.pi * w[0]) ** 2
    middle = (w[:-1] - 1) ** 2 * (1 + 10 * jnp.sin(jnp.pi * w[:-1] + 1) ** 2)
    last = (w[-1] - 1) ** 2 * (1 + jnp.sin(2 * jnp.pi * w[-1]) ** 2)
    return first + jnp.sum(middle) + last


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


FUNCTIONS = {"quadratic": quadratic, "levy": levy, "rosenbrock": rosenbrock}


class Case:
    """Golden arrays of one case, and the queries that they stand for."""

    def __init__(self, name):
        self.name = name

    def __getattr__(self, field):
        return GOLDEN[f"{self.name}_{field}"]

    def forward(self):
        return zo.Queries.from_values(
            self.values,
            directions=zo.directions.explicit(jnp.asarray(self.directions)),
            radius=self.radius.item(),
            origin=self.origin,
        )

    def pairs(self):
        return zo.Queries.from_values(
            np.stack([self.pair_plus, self.pair_minus], -1),
            directions=zo.directions.explicit(jnp.asarray(self.pair_directions)),
            radius=self.radius.item(),
            stencil=zo.stencils.three_point(),
            origin=self.origin,
        )

    def rounds(self):
        return [
            zo.Queries.from_values(
                values,
                directions=zo.directions.explicit(jnp.asarray(directions)),
                radius=self.radius.item(),
            )
            for values, directions in zip(self.reuse_values, self.reuse_directions, strict=True)
        ]


def reused(rounds, theta):
    """The queries of several rounds, as a history gives them."""
    history = zo.History.init(
        theta,
        size=len(rounds),
        num_directions=len(rounds[0].values),
        directions=rounds[0].plan.directions,
    )
    for queries in rounds:
        history = history.push(queries)
    return history.queries()


def assert_matches(actual, desired):
    scale = np.max(np.abs(desired))
    np.testing.assert_allclose(np.asarray(actual) / scale, desired / scale, rtol=0, atol=1e-9)


OF_HESSIANS = [
    ("H_S1", "forward", {"baseline": zo.baselines.none()}),
    ("H_S2", "forward", {"baseline": zo.baselines.origin()}),
    ("H_S3", "pairs", {"baseline": zo.baselines.origin()}),
    ("H_CD", "pairs", {"baseline": zo.baselines.origin(), "identity_term": False}),
    ("H_ZoVH", "forward", {}),
    ("H_ZoVH", "forward", {"baseline": zo.baselines.leave_one_out()}),  # identity (E10)
    ("H_ZoVH_reuse", "reused", {}),
]
OF_INVERSES = [
    ("inverse_eq14", zo.solvers.woodbury()),
    ("inverse_eq15", zo.solvers.gram_diagonal(guard=False)),
]
OF_DIRECTIONS = [("product_eq16", "forward"), ("product_eq122", "reused")]


@functools.cache
def estimated(name):
    """Everything that is golden of a case: one program, which compiles faster than its parts.

    Returns:
      [(golden array's name, estimate)] of Hessians, gradient, inverses and Newton directions.
    """
    case = Case(name)
    damping = case.damping.item()
    queries = {kind: getattr(case, kind)() for kind in ("forward", "pairs")}
    rounds = case.rounds()

    @jax.jit
    def estimate(queries, rounds, theta):
        queries = {**queries, "reused": reused(rounds, theta)}
        forward = zo.estimators.hessian(queries["forward"], theta)
        return (
            [
                zo.estimators.hessian(queries[kind], theta, **options).as_matrix()
                for _, kind, options in OF_HESSIANS
            ],
            [zo.estimators.gradient(queries["forward"], theta)],
            [
                zo.inverse(forward, damping=damping, solver=solver).as_matrix()
                for _, solver in OF_INVERSES
            ],
            [
                zo.estimators.newton_direction(
                    queries[kind],
                    theta,
                    damping=damping,
                    solver=zo.solvers.gram_diagonal(guard=False),
                )
                for _, kind in OF_DIRECTIONS
            ],
        )

    return estimate(queries, rounds, case.theta)


@pytest.mark.parametrize("name", HESSIANS)
@pytest.mark.parametrize("i", range(len(OF_HESSIANS)), ids=lambda i: OF_HESSIANS[i][0])
def test_hessian(name, i):
    assert_matches(estimated(name)[0][i], getattr(Case(name), OF_HESSIANS[i][0]))


@pytest.mark.parametrize("name", HESSIANS)
def test_gradient(name):
    assert_matches(estimated(name)[1][0], Case(name).gradient_eq6)


@pytest.mark.parametrize("name", HESSIANS)
@pytest.mark.parametrize("i", range(len(OF_INVERSES)), ids=lambda i: OF_INVERSES[i][0])
def test_inverse(name, i):
    assert_matches(estimated(name)[2][i], getattr(Case(name), OF_INVERSES[i][0]))


@pytest.mark.parametrize("name", HESSIANS)
@pytest.mark.parametrize("i", range(len(OF_DIRECTIONS)), ids=lambda i: OF_DIRECTIONS[i][0])
def test_newton_direction(name, i):
    assert_matches(estimated(name)[3][i], getattr(Case(name), OF_DIRECTIONS[i][0]))


@pytest.mark.parametrize(("method", "name"), TRAJECTORIES)
def test_trajectory(name, method):
    case = Case(name)
    f = FUNCTIONS[str(case.function)]
    common = {
        "num_directions": case.directions.shape[1],
        "radius": case.radius.item(),
        "key": jax.random.key(0),
    }

    def optimizer(directions):
        common["directions"] = zo.directions.explicit(directions)
        if method != "zovh":
            factory = zo.zoar if method == "zoar" else zo.radazo
            options = common | {"history_size": case.zoar_history_size.item()}
            return factory(case.learning_rate, reuse=zo.reuse.uniform(), **options)
        solver = zo.solvers.gram_diagonal(guard=False)
        return zo.zovh(case.learning_rate, damping=case.damping.item(), solver=solver, **common)

    @jax.jit
    def step(directions, state, x):
        updates, state = optimizer(directions).update(None, state, x, value_fn=f)
        return optax.apply_updates(x, updates), state

    x = jnp.asarray(case.theta0)
    state = optimizer(jnp.asarray(case.directions[0])).init(x)
    for directions, expected in zip(
        case.directions, getattr(case, f"{method}_thetas"), strict=True
    ):
        x, state = step(directions, state, x)
        assert_matches(x, expected)
