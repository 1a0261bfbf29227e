"""zo.grad, zo.value_and_grad and zo.hvp against their JAX namesakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

D = 5
A = jnp.asarray(np.random.default_rng(0).normal(size=(D, D)), jnp.float32)
X = jnp.linspace(-1.0, 1.0, D)
V = jnp.arange(1.0, D + 1) / D
# D orthogonal directions with ‖u‖² = D average to the identity: central differences along them
# are the gradient of a quadratic, up to rounding.
EXACT = {
    "num_directions": D,
    "radius": 0.5,
    "directions": zo.directions.orthogonal(),
    "stencil": zo.stencils.central(),
}
FEW = {"num_directions": 4, "radius": 0.1}


def quadratic(x):
    return 0.5 * jnp.dot(x, A @ x) + jnp.sum(x)


def gradient_of_quadratic(x):
    a = np.asarray(A)
    return (a + a.T) / 2 @ np.asarray(x) + 1


def key(seed=0):
    return jax.random.key(seed)


class Counted:
    """Counts the traces and, when it runs, the evaluations of a function."""

    def __init__(self, f):
        self.f, self.traces, self.values = f, 0, []

    def __call__(self, *args, **kwargs):
        self.traces += 1
        out = self.f(*args, **kwargs)
        value = out[0] if isinstance(out, tuple) else out
        jax.debug.callback(lambda v: self.values.append(float(v)), value)
        return out


def assert_close(actual, desired, tolerance=1e-4):
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance),
        actual,
        desired,
    )


def test_grad_of_a_quadratic():
    assert_close(zo.grad(quadratic, **EXACT)(X, key=key()), gradient_of_quadratic(X))


def test_value_and_grad_of_a_quadratic():
    value, gradient = zo.value_and_grad(quadratic, **EXACT)(X, key=key())
    assert_close((value, gradient), (quadratic(X), gradient_of_quadratic(X)))


@pytest.mark.parametrize("argnums", [0, 2, -1, (0, 2), (2,), [2, 0]])
def test_argnums(argnums):
    """One argument gives its gradient, a sequence a tuple; the others stay as they are."""

    def f(x, scale, y):
        return scale * jnp.sum(x**2) + jnp.dot(x, y) - jnp.sum(y**2)

    args = (X, 3.0, V)
    sizes = {0: D, 2: D, -1: D, (0, 2): 2 * D, (2,): D, (2, 0): 2 * D}
    d = sizes[tuple(argnums) if isinstance(argnums, list) else argnums]
    options = {**EXACT, "num_directions": d}
    of_all = {0: 6 * X + V, 2: X - 2 * V, -1: X - 2 * V}
    expected = of_all[argnums] if isinstance(argnums, int) else tuple(of_all[i] for i in argnums)
    assert_close(zo.grad(f, argnums, **options)(*args, key=key()), expected)


def test_pytrees():
    def f(params, x):
        return jnp.sum((params["w"] @ x + params["b"]) ** 2)

    params = {"b": jnp.ones(2), "w": jnp.arange(4.0).reshape(2, 2) / 4}
    options = {**EXACT, "num_directions": 6}
    x = np.float32([1.0, -2.0])
    slope = 2 * (np.asarray(params["w"]) @ x + 1)
    expected = {"b": slope, "w": np.outer(slope, x)}
    assert_close(jax.jit(zo.grad(f, **options))(params, x, key=key()), expected)


def test_scalars():
    options = {**EXACT, "num_directions": 1}
    gradient = zo.grad(lambda x: x**2 + x, **options)(3.0, key=key())
    assert gradient.shape == () and float(gradient) == pytest.approx(7.0, rel=1e-4)


def test_other_arguments_and_keywords_reach_the_function():
    """Untouched: they need not be arrays."""

    def f(x, mode, *, power):
        assert mode == "sum"
        return jnp.sum(x**power)

    gradient = zo.grad(f, **EXACT)(X, "sum", power=2, key=key())
    assert_close(gradient, 2 * X)


@pytest.mark.filterwarnings("ignore:value_fn returns")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtypes(dtype):
    f, x = lambda x: jnp.sum(x**2), jax.ShapeDtypeStruct((D,), dtype)
    value, gradient = jax.eval_shape(zo.value_and_grad(f, **EXACT), x, key=key())
    assert gradient.dtype == dtype and value.dtype == jnp.float32
    product = jax.eval_shape(zo.hvp(f, **FEW), x, x, key=key())
    assert product.dtype == dtype


def test_has_aux():
    """aux is f's at the arguments, not at a perturbed point."""

    def f(x):
        return quadratic(x), {"x": x, "seven": jnp.int32(7)}

    gradient, aux = zo.grad(f, has_aux=True, **EXACT)(X, key=key())
    assert_close(gradient, gradient_of_quadratic(X))
    assert_close(aux, {"x": X, "seven": jnp.int32(7)})
    (value, aux), again = zo.value_and_grad(f, has_aux=True, **EXACT)(X, key=key())
    assert_close((value, again), (quadratic(X), gradient))
    assert_close(aux["x"], X)


def with_aux(x):
    return quadratic(x), x


CENTRAL = {"stencil": zo.stencils.central()}
THREE = {"stencil": zo.stencils.three_point()}
ORIGIN = {"baseline": zo.baselines.origin()}
CHUNKED = {"evaluate": zo.evaluators.chunked(3)}
AUX = {"has_aux": True}


@pytest.mark.parametrize(
    ("transform", "options", "queries"),
    [
        (zo.grad, {}, 4),
        (zo.grad, ORIGIN, 5),
        pytest.param(zo.grad, CENTRAL, 8, marks=pytest.mark.slow),
        (zo.grad, CENTRAL | ORIGIN, 8),
        pytest.param(zo.grad, THREE | CHUNKED, 9, marks=pytest.mark.slow),
        pytest.param(zo.grad, AUX, 5, marks=pytest.mark.slow),
        (zo.grad, AUX | THREE | CHUNKED, 9),
        pytest.param(zo.value_and_grad, {}, 5, marks=pytest.mark.slow),
        (zo.value_and_grad, ORIGIN | CHUNKED, 5),
        (zo.value_and_grad, CENTRAL, 9),
        pytest.param(zo.value_and_grad, THREE, 9, marks=pytest.mark.slow),
        pytest.param(zo.value_and_grad, AUX, 5, marks=pytest.mark.slow),
        (zo.hvp, {}, 8),
        (zo.hvp, {"stencil": zo.stencils.three_point()}, 9),
        pytest.param(
            zo.hvp, CENTRAL | {"baseline": zo.baselines.mean()}, 8, marks=pytest.mark.slow
        ),
        (zo.hvp, {"stencil": zo.stencils.forward()}, 4),
    ],
)
def test_queries_spent_and_traces(transform, options, queries):
    """What the docstrings declare, counted from inside the function; one trace in all cases."""
    f = Counted(with_aux if options.get("has_aux") else quadratic)
    args = (X, V) if transform is zo.hvp else (X,)
    jax.jit(lambda key: transform(f, **FEW, **options)(*args, key=key))(key())
    jax.effects_barrier()
    assert len(f.values) == queries
    assert f.traces == 1


def test_traced_once_without_jit():
    for transform, args in ((zo.grad, (X,)), (zo.value_and_grad, (X,)), (zo.hvp, (X, V))):
        f = Counted(quadratic)
        transform(f, **FEW, **CHUNKED)(*args, key=key())
        assert f.traces == 1


@pytest.mark.parametrize("transform", [zo.grad, zo.value_and_grad, zo.hvp])
def test_jit_and_vmap_over_keys(transform):
    args = (X, V) if transform is zo.hvp else (X,)
    call = transform(quadratic, **FEW)
    keys = jax.random.split(key(), 3)
    batch = jax.jit(jax.vmap(lambda key: call(*args, key=key)))(keys)
    for i in range(3):
        single = call(*args, key=keys[i])
        assert_close(jax.tree.map(lambda x, i=i: x[i], batch), single, 1e-3)
    estimates = batch[1] if transform is zo.value_and_grad else batch
    assert not np.allclose(estimates[0], estimates[1])


def test_vmap_over_arguments():
    xs = np.stack([X, -X, V])
    keys = jax.random.split(key(), 3)
    batch = jax.jit(jax.vmap(lambda x, key: zo.grad(quadratic, **EXACT)(x, key=key)))
    assert_close(batch(xs, keys), np.stack([gradient_of_quadratic(x) for x in xs]))


@pytest.mark.parametrize("baseline", ["none", "origin", "mean", "leave_one_out"])
def test_grad_is_the_estimator_on_a_query(baseline):
    """The same key gives what zo.query and zo.estimators.gradient give."""
    baseline = getattr(zo.baselines, baseline)()
    queries = zo.query(quadratic, X, key(4), origin=baseline.needs_origin, **FEW)
    expected = zo.estimators.gradient(queries, X, baseline=baseline)
    assert_close(zo.grad(quadratic, baseline=baseline, **FEW)(X, key=key(4)), expected)


def test_hvp_is_the_estimator_on_a_query():
    queries = zo.query(quadratic, X, key(4), stencil=zo.stencils.central(), **FEW)
    hessian = zo.estimators.hessian(queries, X)
    assert_close(zo.hvp(quadratic, **FEW)(X, V, key=key(4)), hessian.mv(V))


@pytest.mark.parametrize("argnums", [0, 1])
def test_hvp_converges_to_the_product(argnums):
    """v comes right after its argument; the mean of 64 estimates is within 5 standard errors."""

    def f(x, y):
        return jnp.sum(x**2 * y) + 0.5 * jnp.dot(y, A @ y)

    args = (X, V)
    direction = jnp.array([1.0, 0.0, -1.0, 0.5, 2.0])
    h = zo.hvp(f, argnums, num_directions=256, radius=0.1)
    with_vector = (*args[: argnums + 1], direction, *args[argnums + 1 :])
    products = jax.jit(jax.vmap(lambda key: h(*with_vector, key=key)))(jax.random.split(key(), 64))
    gradient = jax.grad(f, argnums)

    def along(z):
        return gradient(*(z if i == argnums else arg for i, arg in enumerate(args)))

    _, expected = jax.jvp(along, (args[argnums],), (direction,))
    error = np.std(products, axis=0, ddof=1) / np.sqrt(64)
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(expected)
    assert np.all(np.abs(np.mean(products, axis=0) - expected) < 5 * error)


def test_hvp_of_trees():
    def f(params):
        return jnp.sum(params["a"] ** 2) + params["b"] ** 2

    params, vector = {"a": X, "b": jnp.float32(1)}, {"a": V, "b": jnp.float32(-1)}
    product = jax.jit(zo.hvp(f, num_directions=20_000, radius=0.1))(params, vector, key=key())
    assert_close(product, jax.tree.map(lambda v: 2 * v, vector), 0.15)


def test_the_radius_may_be_traced():
    gradient = jax.jit(
        lambda radius: zo.grad(quadratic, **{**EXACT, "radius": radius})(X, key=key())
    )
    assert_close(gradient(0.3), gradient_of_quadratic(X))


def test_the_key_is_required():
    for transform, args in ((zo.grad, (X,)), (zo.value_and_grad, (X,)), (zo.hvp, (X, V))):
        with pytest.raises(TypeError, match="key"):
            transform(quadratic, **FEW)(*args)
