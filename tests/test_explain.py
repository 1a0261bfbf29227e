"""What `zo.explain` says of programs, and that it is what happens."""

import functools

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

KEY = jax.random.key(0)
LOW_RANK = zo.directions.low_rank()
pytestmark = pytest.mark.usefixtures("fast_compilation")


def normal(*shape):
    return jnp.float32(np.random.default_rng(sum(shape)).normal(size=shape) / shape[0] ** 0.5)


def mean_square(x):
    return jnp.mean(jnp.square(x))


def linear(p):
    return mean_square(normal(5, 4) @ p["kernel"] + p["bias"])


def attention(p):
    x = jnp.tanh(normal(2, 6, 8))
    heads = jnp.einsum("bte,ehd->bthd", x, p["in"])
    return mean_square(jnp.einsum("bthd,hde->bte", jnp.tanh(heads), p["out"]))


def convolution(p):
    return mean_square(
        jax.lax.conv_general_dilated(
            normal(2, 6, 6, 2), p, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )


def layers(p):
    def layer(x, w):
        return jnp.tanh(x @ w["kernel"] + w["bias"]), None

    return mean_square(jax.lax.scan(layer, normal(5, 8), p)[0])


def unrolled(p):
    x = normal(5, 8)
    for i in range(3):
        x = jnp.tanh(x @ p["kernel"][i] + p["bias"][i])
    return mean_square(x)


def tied(p):
    x = p["words"][jnp.arange(12).reshape(2, 6) % 7] + p["positions"]
    x = x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True))
    return mean_square(jnp.tanh(x @ p["layer"]) @ p["words"].T)


def experts(p):
    return mean_square(jnp.einsum("bi,bio->bo", normal(4, 8), p[jnp.array([0, 2, 1, 0])]))


def table(p):
    """Rows are looked up in some ways; no row is a matrix of a stack."""
    row = jax.lax.dynamic_slice(p, (jnp.sum(p.shape[0] - 3), 0), (1, 8))
    return mean_square(jnp.concatenate([p[jnp.array([0, 2])], row, p[:1], p[1:3]]))


def grouped(p):
    return mean_square(jnp.einsum("bgi,gio->bgo", normal(5, 3, 8), p))


def merged(p):
    return mean_square(normal(5, 8) @ p.reshape(8, 2 * 16))


class Transformer(nnx.Module):
    """One block."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.words = nnx.Embed(20, 16, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 16, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.up, self.down = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 16, rngs=rngs)

    def __call__(self, tokens):
        x = self.words(tokens)
        x = x + self.attention(self.norm(x))
        return self.words.attend(x + self.down(nnx.gelu(self.up(x))))


def of_nnx():
    graph, params, rest = nnx.split(Transformer(), nnx.Param, ...)
    tokens = np.arange(12).reshape(2, 6)
    return lambda p: mean_square(nnx.merge(graph, p, rest)(tokens)), params


STACK = {"kernel": normal(3, 8, 8), "bias": normal(3, 8)}
PROGRAMS = {
    "linear": (linear, {"kernel": normal(4, 3), "bias": normal(3)}),
    "attention": (attention, {"in": normal(8, 2, 4), "out": normal(2, 4, 8)}),
    "convolution": (convolution, normal(3, 3, 2, 4)),
    "layers": (layers, STACK),
    "unrolled": (unrolled, STACK),
    "tied": (tied, {"words": normal(7, 8), "positions": normal(6, 8), "layer": normal(8, 8)}),
    "experts": (experts, normal(3, 8, 4)),
    "table": (table, normal(7, 8)),
    "grouped": (grouped, normal(3, 8, 4)),
    "merged": (merged, normal(8, 2, 16)),
    "nnx": of_nnx,  # compiles: not while tests are collected
}
SPLITS = {
    "linear": {"kernel": "io", "bias": "full"},
    "attention": {"in": "ioo", "out": "iio"},
    "convolution": "iiio",
    "layers": {"kernel": "sio", "bias": "full"},
    "unrolled": {"kernel": "sio", "bias": "full"},
    "tied": {"words": "io", "positions": "io", "layer": "io"},
    "experts": "sio",
    "table": "io",
    "grouped": "sio",
    "merged": "ioo",
}


def statuses(explanation):
    return {p.path: p.status for p in explanation.parameters}


@pytest.mark.parametrize("name", PROGRAMS)
def test_with_its_split_nothing_is_formed_and_values_are_right(name):
    f, params = of_nnx() if name == "nnx" else PROGRAMS[name]
    split = zo.explain(f, params, LOW_RANK).split
    assert name not in SPLITS or split == SPLITS[name]
    again = zo.explain(f, params, zo.directions.low_rank(split=split))
    assert set(statuses(again).values()) <= {"factored", "full"}
    assert (again.formed, again.largest) == (0, 0)
    assert jax.tree.leaves(again.split) == jax.tree.leaves(split)
    assert all(p.split == p.suggested for p in again.parameters)

    @jax.jit
    def both(params, key):
        directions = zo.directions.low_rank(split=split)
        q = zo.query(f, params, key, num_directions=3, radius=0.05, directions=directions)
        points = jax.tree.map(lambda x, u: x + 0.05 * u, params, q.plan.draw(params))
        return q.values, jax.vmap(f)(points)

    np.testing.assert_allclose(*both(params, KEY), rtol=2e-5)


def test_statuses():
    w = normal(4, 4)
    params = {"used": w, "vector": w[0], "exp": w, "left": w, "spare": w[0], "masked": w}

    def f(p):
        x = normal(2, 4) @ p["used"] + p["vector"]
        return jnp.sum(x @ jnp.exp(p["exp"])) + jnp.sum(x @ p["masked"])

    mask = {name: name != "masked" for name in params}
    explanation = zo.explain(f, params, zo.directions.masked(LOW_RANK, mask))
    assert statuses(explanation) == {
        "['used']": "factored",
        "['vector']": "full",
        "['exp']": "formed",
        "['left']": "unused",
        "['spare']": "unused",
        "['masked']": "frozen",
    }
    row = next(p for p in explanation.parameters if p.status == "formed")
    line = f.__code__.co_firstlineno + 2
    assert (row.shape, row.split, row.suggested, row.formed) == ((4, 4), "io", "io", 16)
    assert row.where.endswith(f"test_explain.py:{line} (exp)") and "no rule" in row.why
    assert (explanation.formed, explanation.largest) == (16, 64)
    zo.directions.masked(zo.directions.low_rank(split=explanation.split), mask)


def test_a_table_is_printed():
    f, params = PROGRAMS["convolution"]
    text = str(zo.explain(lambda p: f(p["kernel"]), {"kernel": params}, LOW_RANK))
    _, row, _, summary = text.splitlines()
    assert row.startswith("['kernel']  3×3×2×4  iioo → iiio  formed") and "convolution" in row
    assert "test_explain.py:" in row and "(conv_general_dilated)" in row
    assert summary.startswith("Factored: 0 of 1 parameters, 0 of 72 numbers. Formed: 1, 72 numbers")
    assert "288 bytes" in summary


def test_nothing_is_computed_and_shapes_suffice():
    """As much as tracing does."""
    traces = []

    def f(p, scale):
        traces.append(None)
        return scale * jnp.sum(jnp.ones((2, 4)) @ p["w"]) * p["frozen"]

    huge = jax.ShapeDtypeStruct((4, 10**9), jnp.float32)
    params = {"w": huge, "frozen": jax.ShapeDtypeStruct((), jnp.int32)}
    directions = zo.directions.masked(LOW_RANK, {"w": True, "frozen": False})
    explanation = zo.explain(functools.partial(f, scale=2.0), params, directions)
    assert statuses(explanation) == {"['frozen']": "frozen", "['w']": "factored"}
    assert len(traces) == 1


def test_loops_count_as_often_as_they_run():
    def f(p):
        step = jax.jit(lambda x, w: (x @ jnp.exp(w), None))
        return jnp.sum(jax.lax.scan(step, normal(5, 4), p)[0])

    explanation = zo.explain(f, normal(3, 4, 4), LOW_RANK)
    assert (explanation.formed, explanation.largest) == (48, 64)


def test_a_program_that_is_traced_once_counts_where_it_is_called():
    w, shared = jnp.ones((4, 6)), jax.jit(jnp.exp)

    def looped(w):
        step = lambda c, x: (c + jnp.sum(x @ shared(w)), None)  # noqa: E731
        return jax.lax.scan(step, 0.0, jnp.ones((10, 4)))[0]

    for f in (lambda w: looped(w) + jnp.sum(shared(w)), lambda w: jnp.sum(shared(w)) + looped(w)):
        assert zo.explain(f, w, zo.directions.low_rank()).formed == 11 * 24


def test_a_product_of_parameters_forms_the_smaller_one():
    f = lambda p: jnp.sum(jnp.tanh(normal(5, 8) @ (p["down"] @ p["up"])))  # noqa: E731
    explanation = zo.explain(f, {"down": normal(8, 2), "up": normal(2, 9)}, LOW_RANK)
    assert statuses(explanation) == {"['down']": "formed", "['up']": "factored"}
    assert "another parameter" in str(explanation)


def test_an_activation_is_formed_before_a_parameter():
    """Though it is larger here."""
    f = lambda p: mean_square(p["words"][jnp.zeros(99, int)] @ p["layer"])  # noqa: E731
    explanation = zo.explain(f, {"words": normal(7, 8), "layer": normal(8, 3)}, LOW_RANK)
    assert statuses(explanation) == {"['layer']": "factored", "['words']": "factored"}


def test_other_families_and_objectives():
    f, params = PROGRAMS["linear"]
    both = zo.explain(f, params, zo.directions.hadamard(factored=True))
    assert statuses(both) == {"['bias']": "full", "['kernel']": "factored"}
    keyed = lambda p, key: f(p) + jax.random.normal(key)  # noqa: E731
    assert statuses(zo.explain(keyed, params, LOW_RANK)) == statuses(both)
    losses = lambda p: jnp.square(normal(5, 4) @ p["kernel"])[:, 0]  # noqa: E731
    assert zo.explain(losses, params, LOW_RANK, reduce="mean").parameters[0].status == "unused"
    scaled = zo.directions.scaled(LOW_RANK, params)
    assert statuses(zo.explain(f, params, scaled)) == {"['bias']": "full", "['kernel']": "full"}
    full = zo.explain(f, params, zo.directions.low_rank(split="full"))
    assert full.split == SPLITS["linear"] and "full → io" in str(full)
    assert statuses(zo.explain(lambda x: x, jnp.ones(()), LOW_RANK)) == {"": "full"}


def test_bad_arguments():
    f, params = PROGRAMS["linear"]
    with pytest.raises(ValueError, match=r"directions=Gaussian.*low_rank\(\)"):
        zo.explain(f, params, zo.directions.gaussian())
    with pytest.raises(ValueError, match="no factors"):
        zo.explain(f, params, zo.directions.hadamard())
    with pytest.raises(TypeError, match="scalar float"):
        zo.explain(lambda p: p["bias"], params, LOW_RANK)
    with pytest.raises(ValueError, match="reduce"):
        zo.explain(f, params, LOW_RANK, reduce="sum")
    with pytest.raises(TypeError, match="families"):
        zo.explain(f, params, "low_rank")
