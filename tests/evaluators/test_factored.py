"""Factored evaluation: values are those of perturbed parameters, whatever the program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.evaluators.evaluator import perturbed
from zovh_jax.evaluators.factored import Perturbed, interpreted

pytestmark = pytest.mark.usefixtures("fast_compilation")
KEY = jax.random.key(0)
TOKENS = jnp.arange(12).reshape(2, 6) % 20
X = np.float32(np.random.default_rng(9).normal(size=(5, 4)))
IMAGES = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype(np.float32)


def weights(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).normal(size=shape) / shape[0] ** 0.5


NETWORK = jax.tree.map(
    jnp.float32,
    {
        "words": weights(20, 8),
        "attention": weights(8, 2, 4),
        "out": weights(2, 4, 8),
        "layers": weights(3, 8, 8),
        "up": weights(8, 16),
        "bias": np.zeros(16),
        "kernel": weights(3, 3, 4, 16),
    },
)


def network(p):
    """Embeddings tied to logits, attention, stacked layers in a scan, a convolution, branches."""
    x = p["words"][TOKENS]
    heads = jnp.einsum("bte,ehd->bhtd", x, p["attention"])
    scores = jax.nn.softmax(jnp.einsum("bhtd,bhsd->bhts", heads, heads))
    x = x + jnp.einsum("bhts,bhsd,hde->bte", scores, heads, p["out"])

    @jax.checkpoint
    def layer(x, w):
        return x + jax.nn.gelu(x @ w), jnp.sum(x)

    x, sums = jax.lax.scan(layer, x, p["layers"])
    hidden = jax.nn.relu(x @ p["up"] + p["bias"]) @ (-0.5 * p["up"]).T
    logits = hidden @ p["words"].T
    seen = jax.lax.conv_general_dilated(
        IMAGES, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    picked = jax.lax.cond(jnp.sum(seen) > 0, lambda: hidden[0, 0] @ p["up"], lambda: p["bias"])
    looped = jax.lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.tanh(c[1] @ p["layers"][1])), (0, x)
    )[1]
    parts = [jnp.mean(jnp.square(y)) for y in (logits, jnp.tanh(seen), picked, looped)]
    return sum(parts) + 0.01 * jnp.sum(sums)


def explicit_values(f, queries, params):
    """Values at parameters that are perturbed as arrays, as a column for each offset."""
    u, offsets = queries.plan.draw(params), queries.stencil.offsets

    def at(u, offset):
        return f(jax.tree.map(lambda x, v: x + offset * queries.radius * v, params, u))

    columns = [jax.vmap(functools.partial(at, offset=offset))(u) for offset in offsets]
    return jnp.stack(columns, -1)


@pytest.mark.parametrize(
    ("directions", "evaluate", "stencil"),
    [
        pytest.param(
            *(zo.directions.low_rank(), zo.evaluators.vmapped(), zo.stencils.forward()),
            marks=pytest.mark.slow,
        ),
        (zo.directions.low_rank(2), zo.evaluators.chunked(2), zo.stencils.three_point()),
        (
            zo.directions.hadamard(factored=True),
            zo.evaluators.chunked(1),
            zo.stencils.forward(),
        ),
        (
            zo.directions.low_rank(split={**dict.fromkeys(NETWORK, "full"), "layers": "sio"}),
            zo.evaluators.vmapped(),
            zo.stencils.central(),
        ),
    ],
    ids=["vmapped", "chunked", "hadamard", "stack"],
)
def test_values_are_those_of_perturbed_parameters(directions, evaluate, stencil):
    ask = functools.partial(
        zo.query, num_directions=3, radius=0.1, directions=directions, stencil=stencil
    )

    @jax.jit
    def both(params, key):
        queries = ask(network, params, key, evaluate=evaluate)
        return queries.values.reshape(3, -1), explicit_values(network, queries, params)

    got, want = both(NETWORK, KEY)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def formed(f, params, **settings):
    """Which parameters a program forms, and why."""
    found = []
    leaves, treedef = jax.tree.flatten(params)

    def report(eqn, values, why):
        if why:
            found.extend((x.names, x.shape, why) for x in values if isinstance(x, Perturbed))

    fn = interpreted(
        lambda leaves: f(treedef.unflatten(leaves)),
        leaves,
        report=report,
    )

    def run(leaves):
        u = zo.directions.low_rank(**settings).draw(KEY, layout_of(params), 2, jnp.arange(2))
        return jax.vmap(lambda u: fn(perturbed(leaves, jnp.float32(0.1), u)))(u)

    jax.eval_shape(run, leaves)
    return found


def test_a_network_forms_no_parameter():
    assert not [x for x in formed(network, NETWORK) if x[1] in {y.shape for y in NETWORK.values()}]


@pytest.mark.parametrize(
    ("f", "why"),
    [
        (lambda w: jnp.sum(jnp.sin(w)), "sin has no rule"),
        (lambda w: jnp.sum(w * w), "more than a scalar"),
        (lambda w: jnp.sum(jnp.linspace(0, 1, 24) @ w.reshape(24)), "merged"),
        (lambda w: jnp.einsum("ij,ij->", w, jnp.ones((4, 6))), "both of its factors"),
        (lambda w: jnp.sum(X @ functools.reduce(lambda w, _: w + w, range(6), w)), "many terms"),
        (lambda w: jax.lax.fori_loop(0, 2, lambda i, w: w + w, w).sum(), "a loop changes it"),
    ],
)
def test_what_no_rule_covers_is_formed(f, why):
    w = jnp.float32(weights(4, 6))
    f_of = lambda w: f(w) if w.ndim else w  # noqa: E731
    assert any(why in reason for _, _, reason in formed(f_of, w))
    queries = zo.query(f, w, KEY, num_directions=2, radius=0.1, directions=zo.directions.low_rank())
    want = explicit_values(f, queries, w)[:, 0]
    np.testing.assert_allclose(queries.values, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("f", [jnp.sum, lambda w: w[1, 2]])
def test_a_value_that_is_linear_in_a_parameter(f):
    w = jnp.float32(weights(4, 6))
    q = zo.query(f, w, KEY, num_directions=2, radius=0.1, directions=zo.directions.low_rank())
    np.testing.assert_allclose(q.values, explicit_values(f, q, w)[:, 0], rtol=1e-5, atol=1e-5)


def steps_of_a_random_program(rng):
    """Operations on a matrix of which each has a rule, in a random order; ends in a product."""
    moves = [
        lambda w: w.T,
        lambda w: w[::-1],
        lambda w: w[1:, :3],
        lambda w: -2.0 * w,
        lambda w: w / 3.0,
        lambda w: jnp.concatenate([w, jnp.ones_like(w)]),
        lambda w: jnp.concatenate([jnp.ones_like(w), w, w], 1),
        lambda w: jnp.concatenate([w, w[:1]]),
        lambda w: jnp.pad(w, ((0, 1), (2, 0))),
        lambda w: w + 1.0,
        lambda w: w + w[::-1],
        lambda w: w[jnp.array([0, 2, 1])],
        lambda w: jax.lax.dynamic_slice(w, (1, 0), (2, 2)),
        lambda w: jnp.split(w, [1], axis=1)[1],
        lambda w: w[:, None, :, None].reshape(w.shape),
        lambda w: w.astype(jnp.bfloat16).astype(jnp.float32) * 0 + w,
    ]
    return [moves[i] for i in rng.integers(len(moves), size=4)]


@pytest.mark.parametrize("seed", range(4))
def test_random_programs(seed):
    """Several programs at once."""
    rng = np.random.default_rng(seed)
    chains = [steps_of_a_random_program(rng) for _ in range(5)]
    w = jnp.float32(weights(5, 6))

    def f(w):
        total = 0.0
        for chain in chains:
            x = w
            for move in chain:
                x = move(x) if min(x.shape) >= 3 else x
            total += jnp.sum(jnp.tanh(jnp.linspace(-1, 1, x.shape[0]) @ x))
        return total

    @jax.jit
    def both(w, key):
        queries = zo.query(
            f, w, key, num_directions=2, radius=0.1, directions=zo.directions.low_rank(2)
        )
        return queries.values, explicit_values(f, queries, w)[:, 0]

    np.testing.assert_allclose(*both(w, KEY), rtol=1e-4, atol=1e-5)


FILLED = {"mode": "fill", "fill_value": 0.0}


@jax.threefry_partitionable(False)
def older_bits():
    return jax.random.bits(jax.random.key(5), (2,)).astype(jnp.float32).sum() / 2.0**32


@jax.custom_jvp
def own_derivative(w):
    return jnp.sum(jnp.tanh(X @ w))


own_derivative.defjvps(lambda t, out, w: jnp.sum(t))


@jax.custom_vjp
def own_gradient(w):
    return jnp.sum(jnp.tanh(X @ w))


own_gradient.defvjp(lambda w: (own_gradient(w), w), lambda w, g: (g * w,))

CORNERS = {
    "a derivative of its own": own_derivative,
    "a gradient of its own": own_gradient,
    "a map inside": lambda w: jnp.sum(jnp.tanh(jax.vmap(lambda x: x @ w)(X))),
    "a map of rows": lambda w: jnp.sum(jnp.tanh(jax.vmap(lambda w: w[:3])(w) @ jnp.ones((3, 2)))),
    "its sum beside an array": lambda w: jnp.mean(jnp.sin(X @ w) + 0.1 * jnp.sum(w)),
    "an entry from an array": lambda w: jnp.sum(jnp.ones(3) - w[1, 2]),
    "without its mean": lambda w: jnp.sum(jnp.tanh(X @ (w - w.mean()))),
    "an entry times an array": lambda w: jnp.sum(
        (w[1, 2] * jnp.full((1, 1), 2.0)) @ jnp.ones((1, 3))
    ),
    "a complex product": lambda w: jnp.abs(jnp.dot(
        X * 1j + X, w, preferred_element_type=jnp.complex64
    )).sum(),
    "no layers": lambda w: jnp.sum(X @ w) + jnp.sum(w[:0].reshape(-1))
    + jax.lax.scan(lambda c, x: (c + x @ jnp.ones(6), None), 0.0, w[:0])[0],
    "filled along one": lambda w: jnp.sum(
        jnp.sin(w.reshape(1, 4, 6).at[jnp.array([0, 2])].get(**FILLED))
    ),
    "with its transpose": lambda w: jnp.sum(jnp.tanh(X @ (w[:, :4] + w[:, :4].T))),
    "stacked": lambda w: jnp.sum(jnp.tanh(X @ jnp.stack([w, 2 * w, w + 1], 1)[:, 1])),
    "unstacked": lambda w: jnp.sum(jnp.tanh(X @ jnp.stack(jnp.unstack(w, axis=1), 1))),
    "tiled": lambda w: jnp.sum(jnp.tanh(X @ jnp.tile(w, (1, 3)))),
    "by platform": lambda w: jnp.sum(
        X @ jax.lax.platform_dependent(w, tpu=lambda w: w, default=lambda w: 2 * w)
    ),
    "a context": lambda w: jnp.sum(X @ w) + older_bits(),
}  # fmt: skip


def test_corners():
    """One program for all of them compiles in half the time."""
    w = jnp.float32(weights(4, 6))

    def both(f):
        q = zo.query(f, w, KEY, num_directions=2, radius=0.1, directions=zo.directions.low_rank())
        return q.values, explicit_values(f, q, w)[:, 0]

    every = jax.jit(lambda: jax.tree.map(both, CORNERS))()
    for name, values in every.items():
        np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "name",
    [
        *("with its transpose", "stacked", "unstacked", "tiled"),
        *("a derivative of its own", "a gradient of its own", "a map inside"),
    ],
)
def test_corners_that_stay_factored(name):
    assert not formed(CORNERS[name], jnp.float32(weights(4, 6)))


def test_frozen_parameters_are_shared():
    """Behind a mask what is frozen is no parameter: the values are those with zeros there."""
    mask = {**dict.fromkeys(NETWORK, False), "up": True, "words": True}
    directions = zo.directions.masked(zo.directions.low_rank(), mask)

    @jax.jit
    def both(params, key):
        q = zo.query(network, params, key, num_directions=2, radius=0.1, directions=directions)
        return q.values, explicit_values(network, q, params)[:, 0]

    np.testing.assert_allclose(*both(NETWORK, KEY), rtol=1e-5)


def test_wider_products_keep_their_precision():
    """Float32 parameters, cast to float64 or multiplied by it."""
    with jax.enable_x64(True):
        w = jnp.asarray(weights(40, 6), jnp.float32)
        x = jnp.asarray(weights(5, 40))
        for f in (
            lambda w: jnp.sum(jnp.sin(x @ w.astype(jnp.float64))),
            lambda w: jnp.sum(jnp.sin(jnp.dot(x, w, preferred_element_type=jnp.float64))),
        ):
            q = zo.query(
                f, w, KEY, num_directions=2, radius=1e-4, directions=zo.directions.low_rank()
            )
            exact = w.astype(jnp.float64) + 1e-4 * q.plan.draw(w).astype(jnp.float64)
            want = jax.vmap(lambda w: jnp.sum(jnp.sin(x @ w)))(exact)
            np.testing.assert_allclose(q.values, want, rtol=1e-9)  # float32 has 1e-7


def test_values_are_constants_to_autodiff():
    """What cannot be differentiated may be asked inside of what is."""
    x = jnp.float32(weights(4, 6))

    def f(w):
        return jnp.sum(
            jax.pure_callback(
                np.sin, jax.ShapeDtypeStruct(w.shape, w.dtype), w, vmap_method="sequential"
            )
        )

    def whole(w):
        q = zo.query(f, w, KEY, num_directions=2, radius=0.1, directions=zo.directions.low_rank())
        return jnp.sum(w**2) + q.values.mean()

    np.testing.assert_allclose(jax.grad(whole)(x), 2 * x, rtol=1e-6)


def test_indices_out_of_bounds_fill():
    w = jnp.float32(weights(4, 3))
    f = lambda w: jnp.sum(w.at[jnp.array([1, 9])].get(mode="fill", fill_value=0.0) ** 2)  # noqa: E731
    queries = zo.query(f, w, KEY, num_directions=2, radius=0.1, directions=zo.directions.low_rank())
    np.testing.assert_allclose(queries.values, explicit_values(f, queries, w)[:, 0], rtol=1e-5)


def test_the_objective_is_traced_once_and_shares_what_is_not_perturbed():
    """With f(θ) asked too; a product of shared arrays stays one, whatever the number of queries."""
    traces = []
    big = jnp.ones((50, 50))

    def f(w):
        traces.append(None)
        return jnp.sum(jnp.tanh(big @ big @ w))

    def ask(w):
        return zo.query(
            f,
            w,
            KEY,
            num_directions=4,
            radius=0.1,
            directions=zo.directions.low_rank(),
            origin=True,
        ).values

    jaxpr = jax.make_jaxpr(ask)(jnp.ones((50, 2)))
    assert len(traces) == 1
    assert str(jaxpr).count("f32[50,50] = dot_general") == 2  # for f(θ), and for all queries
    assert "f32[4,50,50] = dot_general" not in str(jaxpr)


def test_half_precision_keeps_small_perturbations():
    """An entry of the parameter cannot hold them; the product with the factors can."""
    w = jnp.ones((16, 16), jnp.bfloat16)
    x = jnp.float32(weights(4, 16))
    f = lambda w: jnp.sum(jnp.dot(x, w, preferred_element_type=jnp.float32)[0])  # noqa: E731
    q = zo.query(f, w, KEY, num_directions=4, radius=1e-5, directions=zo.directions.low_rank())
    slopes = (q.values - f(w)) / 1e-5
    u = q.plan.draw(w)
    np.testing.assert_allclose(slopes, jnp.einsum("i,kij->k", x[0], u), rtol=0.2, atol=0.2)


STEPS = {
    "zoar": lambda d: zo.zoar(0.1, num_directions=4, radius=0.1, key=KEY, directions=d),
    "mezo": lambda d: zo.mezo(0.1, radius=0.1, key=KEY, directions=d),
    "scalar_newton": lambda d: zo.scalar_newton(4, 0.1, key=KEY, directions=d),
}
MORE_STEPS = {
    "zoar-adaptive": lambda d: zo.zoar(
        0.1, num_directions=4, radius=0.1, key=KEY, directions=d, reuse=zo.reuse.adaptive()
    ),
    "stored": lambda d: zo.zoar(
        0.1, num_directions=4, radius=0.1, key=KEY, directions=d, store_directions=True
    ),
    "signs": lambda d: zo.zo_signsgd(
        0.1, num_directions=4, radius=0.1, key=KEY, directions=d, majority_vote=True
    ),
    "hizoo": lambda d: zo.hizoo(0.1, radius=0.1, key=KEY, directions=d),
    "radazo": lambda d: zo.radazo(0.1, num_directions=4, radius=0.1, key=KEY, directions=d),
}


FACTORED = {
    "scalar_newton": zo.directions.hadamard(factored=True),
    "hizoo": zo.directions.low_rank(2),
}


class Dense(zo.directions.Wrapper):
    """The same directions as arrays."""

    factored = False
    isotropic = sees_diagonal = True

    def __init__(self, directions):
        self.directions = directions
        self.constant_norm = directions.constant_norm

    def draw(self, key, layout, num_directions, indices):
        rows = self.directions.draw(key, layout, num_directions, indices)
        return [u.dense() if hasattr(u, "dense") else u for u in rows]

    def shrinkage(self, n, layout):
        return self.directions.shrinkage(n, layout)


@pytest.mark.parametrize(
    "name", [*STEPS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_STEPS)]
)
def test_steps_are_those_along_arrays(name):
    x = {"w": jnp.float32(weights(4, 3)), "b": jnp.zeros(3)}

    def f(x):
        return jnp.sum(jnp.square(jnp.ones((2, 4)) @ x["w"] + x["b"]))

    def run(directions):
        optimizer = (STEPS | MORE_STEPS)[name](directions)

        @jax.jit
        def steps(x):
            def step(carry, _):
                x, state = carry
                updates, state = optimizer.update(None, state, x, value_fn=f)
                return (jax.tree.map(jnp.add, x, updates), state), None

            return jax.lax.scan(step, (x, optimizer.init(x)), None, length=3)[0][0]

        return steps(x)

    family = FACTORED.get(name, zo.directions.low_rank())
    got, want = run(family), run(Dense(family))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), got, want)


@pytest.mark.parametrize(
    ("num_directions", "stencil"),
    [
        (40, zo.stencils.forward()),
        (5, zo.stencils.central()),
        pytest.param(5, zo.stencils.forward(), marks=pytest.mark.slow),
        pytest.param(40, zo.stencils.central(), marks=pytest.mark.slow),
    ],
)
def test_few_queries_and_many_are_worth_the_same(num_directions, stencil):
    """Few are multiplied by the factors of all, and take their own."""
    w, x = jnp.float32(weights(7, 5)), jnp.float32(weights(6, 7))

    def f(w):
        return jnp.sum(jnp.sin(jnp.tanh(x @ w) @ w.T))

    q = zo.query(
        f,
        w,
        KEY,
        num_directions=num_directions,
        radius=0.1,
        stencil=stencil,
        directions=zo.directions.low_rank(2),
    )
    steps = 0.1 * jnp.asarray(stencil.offsets)
    want = jnp.stack([jax.vmap(f)(w + s * q.plan.draw(w)) for s in steps], -1)
    np.testing.assert_allclose(q.values, want.reshape(q.values.shape), rtol=1e-4, atol=1e-4)
