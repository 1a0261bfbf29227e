"""The ZoVH product (E18) and its relatives against dense algebra, and its self term's bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax.baselines import leave_one_out, mean, none, origin, variance_optimal
from zovh_jax.directions import explicit, gaussian, masked, orthogonal
from zovh_jax.solvers import cg, gram_diagonal, neumann, woodbury
from zovh_jax.stencils import forward, three_point

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

D, DAMPING, RADIUS, F0 = 6, 0.8, 0.4, 1.3
PARAMS = {"b": np.zeros((2, 2)), "a": np.zeros(2)}  # ravelled with "a" first
PAPER = gram_diagonal(guard=False)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def tree_of(u):
    return {"a": u[..., :2], "b": u[..., 2:].reshape(*u.shape[:-1], 2, 2)}


def ravel(tree):
    return np.concatenate([np.ravel(tree["a"]), np.ravel(tree["b"])])


def data(n, paired=False, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, 2) if paired else n) * 0.05 + F0
    return values, rng.standard_normal((n, D))


def newton(values, u, paired=False, radius=RADIUS, **options):
    options = {"damping": DAMPING, **options}

    @jax.jit
    def run(values):
        queries = zo.Queries.from_values(
            values,
            directions=explicit(tree_of(u)),
            radius=radius,
            stencil=three_point() if paired else forward(),
            origin=F0,
        )
        return zo.estimators.newton_direction(queries, PARAMS, **options)

    return ravel(run(values))


def papers_product(values, u, radius=RADIUS, damping=DAMPING):
    """(E18), term by term; ``radius`` may differ between queries."""
    n, radius = len(values), np.broadcast_to(radius, len(values))
    nu = (values - np.mean(values)) / radius**2
    x = np.zeros(u.shape[1])
    for k in range(n):
        # s_{−k}, with the gradient's own radius where rounds differ in it.
        s = sum(nu[j] * radius[j] * u[j] for j in range(n) if j != k)
        first = radius[k] * nu[k] / (damping * (n - 1))
        second = nu[k] * (u[k] @ s) / (n - 2)
        x += (first - second / (damping**2 * (n - 1) + damping * nu[k] * u[k] @ u[k])) * u[k]
    return x


def product(a, w, scale, u, rescale, solver, damping=DAMPING):
    """ĝ/β − Σ q_k u_k with q from the products u_k·ĝ, or u_k·ĝ_{−k} = r·u_k·Σ_{j≠k} a_j u_j."""
    beta = damping + scale
    t = np.array(
        [
            u[k] @ (a @ u)
            if rescale is None
            else rescale * sum(a[j] * u[k] @ u[j] for j in range(len(a)) if j != k)
            for k in range(len(a))
        ]
    )
    if solver == "woodbury":
        gram = u @ u.T
        q = np.linalg.solve(np.eye(len(a)) + w[:, None] * gram / beta, w * t) / beta**2
    else:
        q = w * t / (beta * (beta + w * np.sum(u**2, 1)))
    return a @ u / beta - q @ u


def pair_coefficients(values, u, baseline):
    n = len(u)
    a = (values[:, 0] - values[:, 1]) / (2 * RADIUS * n)
    even = values.mean(1)
    if baseline == mean():
        return a, (even - even.mean()) / ((n - 1) * RADIUS**2), 0.0
    w = (even - F0) / (n * RADIUS**2)
    return a, w, -np.sum(w)


@pytest.mark.parametrize("n", [3, 4, 9])
def test_forward_is_the_papers_product(n):
    values, u = data(n)
    np.testing.assert_allclose(newton(values, u, solver=PAPER), papers_product(values, u), **CLOSE)


def test_guard_changes_nothing_where_curvatures_are_positive():
    values, u = data(5)
    values = F0 + (values - F0) * 0.2
    curvature = (values - values.mean()) / (4 * RADIUS**2) * np.sum(u**2, 1)
    assert np.min(curvature) < -0.02 and np.min(curvature + DAMPING) > 0.1 * DAMPING
    np.testing.assert_allclose(newton(values, u), papers_product(values, u), **CLOSE)


def test_guard_stays_finite_where_the_paper_does_not():
    values, u = data(5)
    # Scale the values so that one denominator of (E18) vanishes.
    nu = (values - values.mean()) / RADIUS**2
    k = np.argmin(nu)
    values = F0 + (values - F0) * (-DAMPING * 4 / (nu[k] * u[k] @ u[k]))
    assert np.linalg.norm(newton(values, u, solver=PAPER)) > 1e6
    assert np.linalg.norm(newton(values, u)) < 1e3


def test_reuse_is_the_papers_product_over_all_rounds():
    rng = np.random.default_rng(1)
    history = zo.History.init(
        PARAMS,
        size=3,
        num_directions=2,
        directions=explicit(jax.tree.map(jnp.asarray, tree_of(np.zeros((2, D))))),
    )
    for radii in ([RADIUS] * 4, [0.3, 0.4, 0.5, 0.6]):
        rounds = []
        for radius in radii:
            values, u = rng.standard_normal(2) * 0.05, rng.standard_normal((2, D))
            queries = zo.Queries.from_values(values, directions=explicit(tree_of(u)), radius=radius)
            history = history.push(queries)
            rounds.append((values, u, np.full(2, radius)))
        values, u, radius = map(np.concatenate, zip(*rounds[-3:], strict=True))
        x = jax.jit(
            lambda q: zo.estimators.newton_direction(q, PARAMS, damping=DAMPING, solver=PAPER)
        )(history.queries())
        # The identity term vanishes at one radius, the paper's case; `hessian` subtracts it.
        term = np.sum((values - np.mean(values)) / radius**2) / (len(values) - 1)
        expected = papers_product(values, u, radius, DAMPING - term)
        assert (len(set(radii)) == 1) == (abs(term) < 1e-12)
        np.testing.assert_allclose(ravel(x), expected, **CLOSE)


@pytest.mark.parametrize("solver", ["woodbury", "gram_diagonal"])
@pytest.mark.parametrize("baseline", [mean(), origin()])
def test_three_point(baseline, solver):
    values, u = data(5, paired=True)
    a, w, scale = pair_coefficients(values, u, baseline)
    options = {"baseline": baseline, "solver": woodbury() if solver == "woodbury" else PAPER}
    for correction, rescale in [(True, 5 / 4), (False, None)]:
        x = newton(values, u, paired=True, bias_correction=correction, **options)
        np.testing.assert_allclose(x, product(a, w, scale, u, rescale, solver), **CLOSE)


@pytest.mark.parametrize("baseline", [none(), origin(), leave_one_out(), variance_optimal()])
def test_forward_with_other_baselines(baseline):
    n = 5
    values, u = data(n)
    total, squares = values.sum(), np.sum(u**2, 1)

    def centred(moments):
        b = {
            none(): 0.0,
            origin(): F0,
            leave_one_out(): (total - values) / (n - 1),
            variance_optimal(): (moments @ values - moments * values) / (moments.sum() - moments),
        }[baseline]
        return (values - b) / n

    a = centred(squares) / RADIUS
    w = centred(squares**2 - 2 * squares + D) / RADIUS**2
    x = newton(values, u, baseline=baseline, solver=woodbury())
    expected = product(a, w, -w.sum(), u, n / (n - 1), "woodbury")
    np.testing.assert_allclose(x, expected, **CLOSE)


@pytest.mark.parametrize(
    ("baseline", "paired"), [(mean(), False), (origin(), True), (variance_optimal(), False)]
)
def test_woodbury_without_correction_is_the_dense_inverse_times_the_gradient(baseline, paired):
    values, u = data(7, paired)
    options = {"paired": paired, "baseline": baseline, "bias_correction": False}

    @jax.jit
    def parts(values):
        queries = zo.Queries.from_values(
            values,
            directions=explicit(tree_of(u)),
            radius=RADIUS,
            stencil=three_point() if paired else forward(),
            origin=F0,
        )
        e = zo.estimators
        hessian = e.hessian(queries, PARAMS, baseline=baseline)
        return hessian.as_matrix(), e.gradient(queries, PARAMS, baseline=baseline)

    hessian, gradient = parts(values)
    hessian = np.asarray(hessian) + DAMPING * np.eye(D)
    expected = np.linalg.solve(hessian, ravel(gradient))
    assert np.linalg.cond(hessian) < 1e5
    for solver in (woodbury(), cg(tol=1e-13)):
        x = newton(values, u, solver=solver, **options)
        np.testing.assert_allclose(x, expected, rtol=1e-7)


def test_neumann_agrees_where_it_converges_and_is_nan_where_not():
    values, u = data(7)
    options = {"bias_correction": False, "damping": 20.0}
    direct = newton(values, u, solver=woodbury(), **options)
    series = newton(values, u, solver=neumann(num_terms=200), **options)
    np.testing.assert_allclose(series, direct, rtol=1e-9)
    options["damping"] = 1e-3
    assert np.all(np.isnan(newton(values, u, solver=neumann(num_terms=500), **options)))


@pytest.mark.parametrize(
    ("baseline", "correction", "solver"),
    [(mean(), True, PAPER), (mean(), True, woodbury()), (origin(), False, woodbury())],
)
def test_leaf_structure_is_one_problem_a_leaf(baseline, correction, solver):
    values, u = data(5)
    options = {"baseline": baseline, "bias_correction": correction, "solver": solver}
    x = newton(values, u, structure="leaf", **options)
    for part in (slice(0, 2), slice(2, 6)):
        queries = zo.Queries.from_values(
            values, directions=explicit(u[:, part]), radius=RADIUS, origin=F0
        )
        alone = jax.jit(
            lambda q: zo.estimators.newton_direction(
                q, np.zeros(q.plan.directions.tree.shape[1]), damping=DAMPING, **options
            )
        )(queries)
        np.testing.assert_allclose(x[part], alone, **CLOSE)
    assert np.max(np.abs(x - newton(values, u, **options))) > 1e-3


@pytest.mark.parametrize("structure", ["global", "leaf"])
def test_dropped_queries(structure):
    values, u = data(6)
    for kept in (5, 3, 2, 0):
        some = values.copy()
        some[kept:] = [np.nan, np.inf, -np.inf, np.nan, np.nan, np.nan][: 6 - kept]
        x = newton(some, u, solver=PAPER, structure=structure)
        if kept < 3:
            np.testing.assert_array_equal(x, np.zeros(D))
        elif structure == "global":
            np.testing.assert_allclose(x, papers_product(values[:kept], u[:kept]), **CLOSE)
        else:
            for part in (slice(0, 2), slice(2, 6)):
                expected = papers_product(values[:kept], u[:kept, part])
                np.testing.assert_allclose(x[part], expected, **CLOSE)


def test_importance_weights():
    n = 5
    values, u = data(n)
    ratios = np.random.default_rng(2).lognormal(size=n)
    x = newton(values, u, weights=ratios, baseline=leave_one_out(), solver=woodbury())
    c = ratios * (values - (ratios @ values - ratios * values) / (n - 1)) / n
    a, w = c / RADIUS, c / RADIUS**2
    np.testing.assert_allclose(x, product(a, w, -w.sum(), u, n / (n - 1), "woodbury"), **CLOSE)


@pytest.mark.parametrize("structure", ["global", "leaf"])
def test_masked_is_the_problem_on_the_active_leaves(structure):
    directions = masked(gaussian(), {"a": False, "b": True})

    @jax.jit
    def run(key, values):
        plan = zo.Plan(key, directions, num_directions=len(values))
        queries = zo.Queries.from_values(values, plan=plan, radius=RADIUS, origin=F0)
        x = zo.estimators.newton_direction(
            queries, PARAMS, damping=DAMPING, solver=PAPER, structure=structure
        )
        return x, queries.plan.draw(PARAMS)["b"]

    values, _ = data(5)
    x, u = run(jax.random.key(0), values)
    np.testing.assert_array_equal(x["a"], np.zeros(2))
    expected = papers_product(values, np.asarray(u).reshape(5, 4))
    np.testing.assert_allclose(np.ravel(x["b"]), expected, **CLOSE)


def test_orthogonal_pairs_give_newtons_step_on_a_quadratic_aligned_with_them():
    # K = d orthogonal pairs see every slope; with H = h·I the exact step is g/(h + λ).
    h, g = 1.7, np.linspace(-1, 1, D)
    x = jnp.asarray(g)

    @jax.jit
    def run(key):
        queries = zo.query(
            lambda x: 0.5 * h * x @ x,
            x,
            key,
            num_directions=D,
            radius=RADIUS,
            directions=orthogonal(),
            stencil=three_point(),
            store_directions=True,
        )
        return zo.estimators.newton_direction(
            queries,
            x,
            damping=DAMPING,
            baseline=origin(),
            solver=woodbury(),
            bias_correction=False,
        )

    step = run(jax.random.key(3))
    np.testing.assert_allclose(step, h * g / (h + DAMPING), rtol=1e-8)


# E[λ(ĝ − λx)] for λ → ∞ is the mean of Ĥĝ as the product sees it. On a quadratic with Hessian H,
# T = tr(H), slope g, from Gaussian moments up to the sixth (n directions, d parameters):
#   forward, mean():        corrected (n−2)/n·Hg
#                           raw (n−2)²/(n(n−1))·Hg + [2(d+4)H + 2T]g/n
#   three_point, mean():    corrected (n−2)/(n−1)·Hg
#                           raw (n−2)/n·Hg + [(d+4)H + T]g/n
#   three_point, origin():  corrected (n−1)/n·Hg
#                           raw (n−1)/n·Hg + (d+3)/(2n)·(T + 2H)g
# The terms in d are the self term: u_k·ĝ contains a_k‖u_k‖².
@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("case", ["forward mean", "three_point mean", "three_point origin"])
def test_correction_removes_the_self_term(case, corrected):
    d, n, radius, damping, num_rounds = 5, 4, 0.3, 1e7, 200_000
    rng = np.random.default_rng(0)
    h = rng.standard_normal((d, d)) * 0.3
    h = h + h.T + np.diag([2.0, 1.0, -0.5, 0.5, 1.0])
    g = np.array([1.0, -0.5, 0.3, 0.8, -1.0])
    u = rng.standard_normal((num_rounds, n, d))
    bend = radius**2 / 2 * np.einsum("rki,ij,rkj->rk", u, h, u)
    slope = radius * u @ g
    paired = case.startswith("three_point")
    values = np.stack([bend + slope, bend - slope], -1) if paired else bend + slope
    baseline = origin() if case.endswith("origin") else mean()

    def one(values, u):
        queries = zo.Queries.from_values(
            values,
            directions=explicit(u),
            radius=radius,
            stencil=three_point() if paired else forward(),
            origin=0.0,
        )
        x = zo.estimators.newton_direction(
            queries, jnp.zeros(d), damping=damping, baseline=baseline, bias_correction=corrected
        )
        gradient = zo.estimators.gradient(queries, jnp.zeros(d), baseline=baseline)
        return damping * (gradient - damping * x)

    samples = np.asarray(jax.jit(jax.vmap(one))(values, u))
    hg, tg = h @ g, np.trace(h) * g
    expected, self_term = {
        "forward mean": (
            (n - 2) / n * hg,
            (n - 2) ** 2 / (n * (n - 1)) * hg + (2 * (d + 4) * hg + 2 * tg) / n,
        ),
        "three_point mean": ((n - 2) / (n - 1) * hg, (n - 2) / n * hg + ((d + 4) * hg + tg) / n),
        "three_point origin": (
            (n - 1) / n * hg,
            (n - 1) / n * hg + (d + 3) / (2 * n) * (tg + 2 * hg),
        ),
    }[case]
    error = samples.std(0) / np.sqrt(num_rounds)
    assert np.max(np.abs(self_term - expected) / error) > 30
    target = expected if corrected else self_term
    assert np.all(np.abs(samples.mean(0) - target) < 5 * error)
