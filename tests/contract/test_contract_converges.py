"""The targets of optax's own contract for contributed optimisers, from values alone."""

import jax
import jax.numpy as jnp
import optax
import pytest
from registry import assert_close, base_key

import zovh_jax as zo


def parabola():
    final = jnp.array([1.0, -1.0, 1.0])
    return jnp.array([-1.0, 10.0, 1.0]), final, lambda x: jnp.sum(jnp.square(x - final))


def matrix_parabola():
    final = jnp.array([[3.0, -2.0], [1.0, 4.0]])
    return jnp.zeros((2, 2)), final, lambda x: jnp.sum(jnp.square(x - final))


def mixed_tensors():
    final = (jnp.array([1.0, -1.0, 2.0]), jnp.array([[1.0, 0.0], [-1.0, 1.0]]))

    def f(params):
        return sum(jnp.sum(jnp.square(x - y)) for x, y in zip(params, final, strict=True))

    return jax.tree.map(jnp.zeros_like, final), final, f


def rosenbrock():
    def f(x):
        return jnp.square(1 - x[0]) + 100 * jnp.square(x[1] - jnp.square(x[0]))

    return jnp.zeros(2), jnp.ones(2), f


def options(num_directions=4, radius=0.01, **more):
    return {"num_directions": num_directions, "radius": radius, "key": base_key(), **more}


CENTRAL = {"stencil": zo.stencils.central()}
OPTIMIZERS = {
    "sgd": lambda: zo.zo_sgd(0.02, **options()),
    "sgd-central": lambda: zo.zo_sgd(0.02, **options(**CENTRAL)),
    "zoar": lambda: zo.zoar(0.01, **options(radius=0.05)),
    "zovh": lambda: zo.zovh(1.0, damping=100.0, **options(8, 0.1)),
    "zovh-reuse": lambda: zo.zovh(0.3, damping=100.0, history_size=4, **options(radius=0.1)),
    "zovh-three": lambda: zo.zovh(
        0.1, damping=10.0, **options(radius=0.1, stencil=zo.stencils.three_point())
    ),
    "newton-woodbury": lambda: optax.chain(
        zo.zo_newton(damping=10.0, solver=zo.solvers.woodbury(), **options(8, 0.1, **CENTRAL)),
        optax.scale(-0.1),
    ),
    "adam": lambda: optax.chain(
        zo.zo_gradient(**options(**CENTRAL)), optax.adam(optax.cosine_decay_schedule(0.05, 3000))
    ),
    "precondition": lambda: optax.chain(
        zo.zo_gradient(**options(**CENTRAL)),
        zo.scale_by_inverse_hessian(
            8,
            0.1,
            damping=1.0,
            key=jax.random.key(1),
            stencil=zo.stencils.three_point(),
            baseline=zo.baselines.origin(),
        ),
        optax.scale(-0.02),
    ),
}


def minimise(optimizer, target, num_steps):
    params, final, f = target

    def body(carry, _):
        params, state = carry
        updates, state = optimizer.update(None, state, params, value_fn=f)
        return (optax.apply_updates(params, updates), state), None

    carry = (params, optimizer.init(params))
    (params, state), _ = jax.jit(lambda c: jax.lax.scan(body, c, length=num_steps))(carry)
    return params, final, state


PAIRS = [(name, target) for name in OPTIMIZERS for target in (parabola, mixed_tensors)]
PAIRS += [("sgd", matrix_parabola), ("zoar", matrix_parabola), ("zovh", matrix_parabola)]
# By default each on one target, and one of each kind on several leaves.
DEFAULT = [
    ("sgd", matrix_parabola),
    *((name, mixed_tensors) for name in ("sgd-central", "zoar", "zovh-reuse", "adam")),
    *((name, parabola) for name in ("zovh-three", "precondition")),
]


@pytest.mark.parametrize(
    ("name", "target"),
    [pytest.param(*pair, marks=[] if pair in DEFAULT else [pytest.mark.slow]) for pair in PAIRS],
)
def test_reaches_the_minimum(name, target):
    params, final, _ = minimise(OPTIMIZERS[name](), target(), 3000)
    assert_close(params, final, rtol=3e-2, atol=3e-2)


def test_reaches_the_minimum_of_rosenbrock():
    params, final, _ = minimise(
        optax.chain(
            zo.zo_gradient(**options(radius=1e-3, **CENTRAL)),
            optax.adam(optax.cosine_decay_schedule(0.05, 6000)),
        ),
        rosenbrock(),
        6000,
    )
    assert_close(params, final, rtol=3e-2, atol=3e-2)
