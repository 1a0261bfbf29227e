"""ZO-SAH: exact fits, a re-implementation in numpy, other subspaces' moves, and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import compiled_run, ravel

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.problems.noise import hash_of
from zovh_jax.transforms.sah.couplings import Couplings, couple, no_couplings, remember
from zovh_jax.transforms.sah.fit import (
    Seen,
    clipped_product,
    clipped_solve,
    fit_hessians,
    gradients_of,
)
from zovh_jax.transforms.sah.groups import (
    curvature_points,
    forward_points,
    points_around,
    random_groups,
    read,
    write,
)
from zovh_jax.transforms.sah.joint import shortening

pytestmark = pytest.mark.usefixtures("fast_compilation")

KEY = jax.random.key(3)


def points(q):
    return np.concatenate([forward_points(q), curvature_points(q)])


def symmetric(rng, *shape):
    a = rng.normal(size=shape)
    return a + np.swapaxes(a, -1, -2)


# The fit -----------------------------------------------------------------------------------------


@jax.jit
def fit(seen, ridge, prior, **options):
    return fit_hessians(seen, points(prior.shape[-1]), prior, ridge=jnp.asarray(ridge), **options)


def quadratic_steps(rng, hessian, num_steps, radius=0.5):
    """What steps around random centres see of a quadratic, each with a constant of its own."""
    q = len(hessian)
    gradient, centres = rng.normal(size=q), rng.normal(size=(num_steps, q))
    f = lambda x: gradient @ x + x @ hessian @ x / 2  # noqa: E731
    slopes = [[(f(c + radius * w) - f(c)) / radius for w in points(q)] for c in centres]
    radii = np.full(num_steps, radius)
    return Seen(*(jnp.asarray(x) for x in (np.array(slopes)[:, None], centres[:, None], radii)))


@pytest.mark.parametrize("q", [1, 2, 3, 5])
def test_fit_recovers_a_block_from_one_step(q, x64):
    rng = np.random.default_rng(q)
    hessian = symmetric(rng, q, q)
    steps = quadratic_steps(rng, hessian, 1)
    fitted = fit(steps, 1e-13, jnp.zeros((1, q, q)))
    np.testing.assert_allclose(fitted[0], hessian, rtol=1e-9, atol=1e-9)


def test_fit_recovers_a_block_from_forward_slopes_of_three_steps(x64):
    """Reuse alone: no curvature point is known, and the steps' constants differ."""
    rng = np.random.default_rng(0)
    hessian = symmetric(rng, 2, 2)
    steps = quadratic_steps(rng, hessian, 3)
    steps = steps._replace(slopes=steps.slopes.at[..., 2:].set(jnp.nan))
    for scales in (None, jnp.ones(1)):  # alone, nothing else can have moved
        fitted = fit(steps, 1e-13, jnp.zeros((1, 2, 2)), scales=scales)
        np.testing.assert_allclose(fitted[0], hessian, rtol=1e-9, atol=1e-9)


def test_ridge_leaves_what_is_not_determined_at_the_prior(x64):
    """Steps along the first axis show the first row of H; the rest is the prior's."""
    hessian, prior = np.array([[3.0, 1.0], [1.0, 5.0]]), np.array([[9.0, 9.0], [9.0, 7.0]])
    c, mu = np.array([[0.0, 0.0], [1.0, 0.0]]), 1e-9
    slopes = np.full((2, 1, 5), np.nan)
    slopes[:, 0, :2] = c @ hessian
    steps = Seen(jnp.asarray(slopes), jnp.asarray(c[:, None]), jnp.full(2, mu))
    fitted = fit(steps, 1e-9, jnp.asarray(prior[None]))
    np.testing.assert_allclose(fitted[0], [[3, 1], [1, 7]], atol=1e-6)


def test_fit_without_its_forward_slopes_is_the_prior(x64):
    steps = quadratic_steps(np.random.default_rng(0), np.eye(2), 2)
    steps = steps._replace(slopes=steps.slopes.at[0, 0, 1].set(jnp.nan))
    prior = jnp.array([[[2.0, 1.0], [1.0, 4.0]]])
    np.testing.assert_array_equal(fit(steps, 1e-6, prior), prior)


def together(rng, hessian, centres, radius, q):
    """What forward steps of all groups at once see of a quadratic: g, and what they saw."""
    num_steps, d = centres.shape
    gradient = rng.normal(size=d)
    f = lambda x: gradient @ x + x @ hessian @ x / 2  # noqa: E731
    slopes = np.full((num_steps, d // q, len(points(q))), np.nan)
    forward = [[(f(c + radius * e) - f(c)) / radius for e in np.eye(d)] for c in centres]
    slopes[:, :, :q] = np.reshape(forward, (num_steps, d // q, q))
    places = centres.reshape(num_steps, d // q, q)
    return Seen(*map(jnp.asarray, (slopes, places, np.full(num_steps, radius))))


def dense(rng, d):
    """A convex quadratic's Hessian, and its blocks of 2."""
    root = rng.normal(size=(d, d)) * np.logspace(0, 1, d)[:, None]
    hessian = root @ root.T / d
    return hessian, np.stack([hessian[i : i + 2, i : i + 2] for i in range(0, d, 2)])


@pytest.mark.parametrize("seed", range(4))
def test_other_groups_moves_are_no_curvature(seed, x64):
    """The bound of `fit_hessians` with the exact prior; without scales, errors are far above.

    The groups move very differently, so that what a small one sees is mostly the others' doing.
    """
    rng = np.random.default_rng(seed)
    hessian, blocks = dense(rng, 20)
    centres = rng.normal(size=(3, 20)) * np.repeat(np.logspace(-3, 0, 10), 2)
    seen, size = together(rng, hessian, centres, 1e-3, 2), np.linalg.norm(blocks, axis=(1, 2))
    errors = {}
    for scales in (None, jnp.asarray(size)):
        fitted = fit(seen, 1e-6, jnp.asarray(blocks), scales=scales)
        errors[scales is None] = np.linalg.norm(fitted - blocks, axis=(1, 2)) / size
    assert errors[False].max() < 0.5
    assert errors[True].max() > 10


def test_a_group_that_moves_alone_learns_as_if_there_were_no_others(x64):
    rng = np.random.default_rng(0)
    hessian, blocks = dense(rng, 6)
    centres = np.zeros((3, 6))
    centres[:, 2:4] = rng.normal(size=(3, 2))
    seen = together(rng, hessian, centres, 1e-3, 2)
    fitted = fit(seen, 1e-12, jnp.zeros_like(blocks), scales=jnp.ones(3))
    np.testing.assert_allclose(fitted[1], blocks[1], rtol=1e-6)


def test_the_fit_does_not_depend_on_units(x64):
    """Parameters in other units, each group in its own: the same fit in these units."""
    rng = np.random.default_rng(1)
    hessian, blocks = dense(rng, 6)
    centres, units = rng.normal(size=(3, 6)), np.repeat([1.0, 100.0, 0.01], 2)
    fits = []
    for unit in (np.ones(6), units):
        scaled = np.outer(unit, unit) * hessian
        prior = jnp.asarray(blocks * (unit[::2] ** 2)[:, None, None]) * 0.8
        size = jnp.linalg.norm(prior, axis=(1, 2))
        seen = together(np.random.default_rng(2), scaled, centres / unit, 1e-12, 2)
        slopes = (scaled @ (centres / unit).T).T.reshape(3, 3, 2)  # exact, for a radius of zero
        seen = seen._replace(slopes=seen.slopes.at[..., :2].set(slopes))
        fitted = fit(seen, 1e-3, prior, scales=size)
        fits.append(fitted / (unit[::2] ** 2)[:, None, None])
    np.testing.assert_allclose(fits[0], fits[1], rtol=1e-6)
    assert np.abs(fits[0] - 0.8 * blocks).max() > 1e-3


def test_slopes_that_are_mostly_rounding_leave_the_prior(x64):
    steps = quadratic_steps(np.random.default_rng(0), np.eye(2), 3)
    prior, scales = jnp.array([[[2.0, 1.0], [1.0, 4.0]]]), jnp.array([5.0])
    kept, moved = (fit(steps, 1e-9, prior, scales=scales, rounding=r) for r in (1e4, 1e-9))
    np.testing.assert_allclose(kept, prior, atol=1e-3)
    np.testing.assert_allclose(moved[0], np.eye(2), atol=1e-6)


def test_gradients_are_central_where_minus_points_are_known(x64):
    """And elsewhere free of μ/2·H_aa; on a quadratic both are exact, on x³ they are off by μ²."""
    h, g, mu = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, -2.0]), 0.5
    slopes = jnp.asarray([[w @ g + mu / 2 * w @ h @ w for w in points(2)]])
    for known in (5, 2):
        seen = jnp.where(jnp.arange(5) < known, slopes, jnp.nan)
        np.testing.assert_allclose(gradients_of(seen, jnp.asarray(h[None]), mu)[0], g, rtol=1e-12)
    cubic = jnp.array([[mu**2, -(mu**2), jnp.nan]])
    np.testing.assert_allclose(gradients_of(cubic, jnp.ones((1, 1, 1)), mu), mu**2)
    assert jnp.isnan(gradients_of(jnp.full((1, 3), jnp.nan), jnp.ones((1, 1, 1)), mu)).all()


def test_eigenvalues_are_made_positive_and_clipped(x64):
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    hessian, v = basis @ np.diag([-4.0, 0.01, 2.0]) @ basis.T, rng.normal(size=3)
    expected = basis @ np.diag([1 / 4, 1 / 0.1, 1 / 2]) @ basis.T @ v
    hessians = jnp.asarray(hessian[None])
    solved = jax.jit(clipped_solve)(hessians, jnp.asarray(v[None]), 0.1)
    np.testing.assert_allclose(solved[0], expected, rtol=1e-9)
    np.testing.assert_allclose(clipped_product(hessians, solved, 0.1)[0], v, rtol=1e-9)


def test_shortening_is_the_ratio_of_curvatures_along_the_last_move(x64):
    """1 without couplings, J where all groups pull at one sum; limited for anything else."""
    rng = np.random.default_rng(3)
    d, q, move = 6, 2, np.zeros((2, 6))
    move[0] = 1
    ones = np.ones((d, d))
    for hessian, growth, expected in (
        (np.kron(np.eye(3), ones[:2, :2]), 1, 1),
        (ones, 1, 3),
        (ones, 1e3, 12),
        (-ones, 1, 1),
    ):
        seen = together(rng, growth * hessian, move, 1e-4, q)
        blocks = jnp.broadcast_to(jnp.asarray(hessian[:2, :2]), (3, 2, 2))
        got = shortening(seen, blocks, 1e-3, 0.0, jnp.asarray(1.0))
        np.testing.assert_allclose(got, expected, rtol=0.01 if growth == 1 else 1e-9)
    assert abs(shortening(seen, blocks, 1e-3, 0.0, jnp.asarray(5.0)) - 4) < 1e-9  # forgotten slowly
    seen = seen._replace(slopes=seen.slopes.at[1].set(jnp.nan))
    assert shortening(seen, blocks, 1e-3, 0.0, jnp.asarray(7.0)) == 3  # kept, up to J
    assert shortening(seen, blocks, 1e-3, 0.0, jnp.asarray(2.0)) == 2


# Groups of coordinates ---------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "num_groups", "q"), [(6, 3, 2), (1000, 5, 3)])
def test_groups_are_disjoint(size, num_groups, q):
    draw = jax.vmap(lambda key: random_groups(key, size, num_groups, q))
    groups = np.asarray(draw(jax.random.split(KEY, 50)))
    assert groups.shape == (50, num_groups, q)
    assert groups.min() >= 0 and groups.max() < size
    assert all(len(set(one.ravel())) == num_groups * q for one in groups)


def test_groups_are_uniform():
    """Every ordered pair of 5 coordinates equally often, within 5 standard errors."""
    n = 4000
    draw = jax.jit(jax.vmap(lambda key: random_groups(key, 5, 1, 2)[0]))
    pairs = np.asarray(draw(jax.random.split(KEY, n)))
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(pairs.T), 1)
    counts = counts[~np.eye(5, dtype=bool)]
    assert np.abs(counts - n / 20).max() < 5 * np.sqrt(n / 20)


def test_points_reads_and_writes_agree_with_a_flat_vector():
    tree = {
        "a": jnp.arange(3.0),
        "b": jnp.zeros((0, 2)),
        "c": jnp.asarray(7.0),
        "d": jnp.ones((2, 2)),
    }
    structure, leaves = layout_of(tree), jax.tree.leaves(tree)
    flat = np.concatenate([np.ravel(x) for x in leaves])
    groups = jnp.array([[7, 0], [3, 2]])
    np.testing.assert_array_equal(read(leaves, structure, groups), flat[np.asarray(groups)])
    written = write(jnp.array([[1.0, 2.0], [3.0, 4.0]]), structure, groups)
    np.testing.assert_array_equal(
        np.concatenate([np.ravel(x) for x in written]), [2, 0, 4, 3, 0, 0, 0, 1]
    )
    plan = zo.Plan(KEY, points_around(groups, points(2)), num_directions=10, block_size=10)
    rows = np.concatenate([np.reshape(x, (10, -1)) for x in jax.tree.leaves(plan.draw(tree))], -1)
    expected = np.zeros((10, 8))
    for j, group in enumerate(np.asarray(groups)):
        expected[5 * j : 5 * j + 5, group] = points(2)
    np.testing.assert_array_equal(rows, expected)


# The transformation ------------------------------------------------------------------------------

SCALES = np.array([1.0, 30.0, 0.5, 4.0, 100.0, 0.02, 9.0])


def bumpy(x):
    x = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(x)])
    coupled = jnp.sum(x[:-1] * x[1:]) + 3 * x[0] * x[-1] * x[2]
    return jnp.sum(jnp.asarray(SCALES) * x**2) / 2 + coupled + jnp.sum(jnp.sin(2 * x))


def start():
    x = np.random.default_rng(5).normal(size=7)
    return {"a": jnp.asarray(x[:3]), "b": jnp.asarray(x[3:].reshape(2, 2))}


def slow_gradient(slopes, hessian, mu):
    q = len(hessian)
    forward = np.array([slope for _, slope in slopes[:q]])
    if len(slopes) > q:
        return (forward - np.array([slope for _, slope in slopes[q : 2 * q]])) / 2
    return forward - mu / 2 * np.diagonal(hessian)


def slow_fit(j, window, prior, sizes, noise, ridge):
    """A group's Hessian by lstsq, with an unknown curvature against each other coordinate."""
    q, num_groups = len(prior), len(sizes)
    upper = [(a, b) for a in range(q) for b in range(a, q)]
    others = [(k, b) for k in range(num_groups) if k != j for b in range(q)]
    origin = window[0]
    rows, right = [], []
    for step in window:
        mu, moves = step["mu"], step["centres"] - origin["centres"]
        for w, slope in step["slopes"][j]:
            middle = moves[j] + mu / 2 * w
            terms = [w[a] * middle[b] + (a != b) * w[b] * middle[a] for a, b in upper]
            cross = [w[a] * moves[k, b] for a in range(q) for k, b in others]
            rows.append([*w, *terms, *cross])
            right.append(slope)
    unit = max(*(np.abs(s["centres"][j] - origin["centres"][j]).max() for s in window), 0)
    unit = max(unit, *(s["mu"] for s in window))
    weight = np.sqrt(ridge * unit**2 + (noise / sizes[j]) ** 2)
    penalties = [weight * (2 if a != b else 1) ** 0.5 for a, b in upper]
    penalties += [
        weight / np.sqrt((num_groups - 1) * sizes[k] / sizes[j])
        for _ in range(q)
        for k, _ in others
    ]
    targets = [prior[a, b] for a, b in upper] + [0] * (q * len(others))
    for i, (penalty, target) in enumerate(zip(penalties, targets, strict=True)):
        rows.append([0] * q + [penalty * (k == i) for k in range(len(penalties))])
        right.append(penalty * target)
    solution = np.linalg.lstsq(np.array(rows, float), np.array(right), rcond=None)[0]
    hessian = np.zeros((q, q))
    for (a, b), h in zip(upper, solution[q:], strict=False):
        hessian[a, b] = hessian[b, a] = h
    return hessian


def slow_step(f, x, coordinates, past, priors, radius, clip, ridge, switches, shorter):
    """One step of ZO-SAH in numpy: (direction, what it saw, Hessians, shortening), by loops."""
    q = coordinates.shape[1]
    step = {"mu": radius, "centres": x[coordinates], "slopes": []}
    for group in coordinates:
        step["slopes"].append([])
        for w in points(q) if switches else forward_points(q):
            moved = x.copy()
            moved[group] += radius * w
            step["slopes"][-1].append((w, (f(moved) - f(x)) / radius))
    window = [step] + ([] if switches else past)
    norms = np.array([np.linalg.norm(prior) for prior in priors])
    noise = 0 if switches else np.finfo(float).eps * abs(f(x)) / radius
    if switches:
        priors, ridge = [np.zeros((q, q))] * len(priors), min(ridge, 1e-6)
    sizes = np.maximum(norms, clip)
    hessians = [slow_fit(j, window, p, sizes, noise, ridge) for j, p in enumerate(priors)]
    direction, own, joint = np.zeros_like(x), 0, 0
    for j, group in enumerate(coordinates):
        values, basis = np.linalg.eigh(hessians[j])
        size = basis @ np.diag(np.maximum(np.abs(values), clip)) @ basis.T
        gradient = slow_gradient(step["slopes"][j], hessians[j], radius)
        direction[group] = np.linalg.solve(size, gradient)
        if not switches:
            move = step["centres"][j] - past[0]["centres"][j]
            before = slow_gradient(past[0]["slopes"][j], hessians[j], past[0]["mu"])
            own += move @ size @ move
            joint += move @ (gradient - before) - 2 * noise * np.abs(move).sum()
    count = len(coordinates)
    shorter = (
        min(shorter, count) if switches else np.clip(max(joint / own, 0.8 * shorter), 1, 4 * count)
    )
    return direction / shorter, step, hessians, shorter


@pytest.mark.parametrize("q", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_agrees_with_a_slow_reimplementation(q, x64):
    """Nine steps: two switches, and reuse of one and of two preceding steps; a falling radius."""
    radius = lambda count: 0.05 * 0.9**count  # noqa: E731
    transformation = zo.zo_sah_direction(
        2,
        radius,
        key=KEY,
        curvature_radius=lambda count: 2 * radius(count),
        switch_every=5,
        clip=0.3,
        ridge=1e-3,
        subspace_dimension=q,
    )
    f = jax.jit(bumpy)
    params, past, priors, shorter = start(), [], [np.zeros((q, q))] * 2, 1.0
    state, drawn, shortened = transformation.init(params), [], []
    update = jax.jit(lambda p, s: transformation.update(None, s, p, value_fn=bumpy))
    for t in range(9):
        direction, state = update(params, state)
        drawn.append(np.asarray(state.coordinates))
        switches = t % 5 == 0
        expected, step, hessians, shorter = slow_step(
            lambda x: float(f(jnp.asarray(x))),
            ravel(params),
            drawn[-1],
            past,
            priors,
            radius(t) * (2 if switches else 1),
            0.3,
            1e-3,
            switches,
            shorter,
        )
        np.testing.assert_allclose(ravel(direction), expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(state.hessians, hessians, rtol=1e-6, atol=1e-6)
        past = [step] if switches else [step, past[0]]
        priors = hessians if switches else priors
        shortened.append(shorter)
        params = jax.tree.map(lambda x, v: x - 0.3 * v, params, direction)
    assert all((drawn[t] == drawn[t - 1]).all() == (t != 5) for t in range(1, 9))
    assert max(shortened) > 1


def counting(f, seen):
    def counted(x):
        value = f(x)
        jax.debug.callback(lambda v: seen.extend(np.ravel(v)), value)
        return value

    return counted


def run(transformation, f, x, num_steps, learning_rate=0.0):
    """Directions, states and evaluations after each step."""
    seen, out = [], []
    step = jax.jit(lambda x, s: transformation.update(None, s, x, value_fn=counting(f, seen)))
    state = transformation.init(x)
    for _ in range(num_steps):
        direction, state = step(x, state)
        jax.effects_barrier()
        out.append((np.asarray(direction), state, len(seen)))
        x = x - learning_rate * direction
    return out


def costs(steps):
    """What each step charged, which is also what it evaluated."""
    totals = [total for _, _, total in steps]
    assert totals == [int(zo.num_queries(state)) for _, state, _ in steps]
    return np.diff([0, *totals]).tolist()


@pytest.mark.parametrize(
    ("q", "ordinary", "switching"),
    [
        pytest.param(1, 4, 7, marks=pytest.mark.slow),
        (2, 7, 16),
        pytest.param(3, 10, 28, marks=pytest.mark.slow),
    ],
)
def test_queries(q, ordinary, switching):
    """1 + J·q, and J·q(q+1)/2 more after a switch: with the centre, all that a quadratic has."""
    newton = zo.zo_sah_direction(3, 0.1, key=KEY, switch_every=3, subspace_dimension=q)
    steps = run(newton, lambda x: jnp.sum(x**2), jnp.ones(9), 4)
    assert costs(steps) == [switching, ordinary, ordinary, switching]


def test_newton_steps_solve_separable_pairs(x64):
    """Where the pairs do not interact, steps of rate 1 are at the minimum; with −μe or without."""
    h = jnp.array([[2.0, 1.0], [1.0, 50.0]])
    newton = zo.zo_sah_direction(1, 0.1, key=KEY)
    x = jnp.array([3.0, -2.0])
    step = jax.jit(lambda x, s: newton.update(None, s, x, value_fn=lambda x: x @ h @ x / 2))
    state = newton.init(x)
    for _ in range(3):
        direction, state = step(x, state)
        np.testing.assert_allclose(direction, x, rtol=1e-4)
        x = x - 0.25 * direction


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


@pytest.mark.parametrize(
    "double", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["float32", "float64"]
)
def test_reaches_the_minimum_of_rosenbrocks_function(double):
    """At radii at which it stopped before; bounds at twice what was measured.

    The minimum of central differences is where f is 4e-4 for μ = 0.01: it goes with μ⁴. Medians
    over starts: where f bends more than the fitted quadratic, a step may be far too long, and such
    a run needs longer.
    """
    with jax.enable_x64(double):

        def final(radius, rate, x):
            optimizer = zo.zo_sah(rate, num_subspaces=1, radius=radius, key=KEY)
            return rosenbrock(compiled_run(optimizer, rosenbrock, x, 400)[0][-1])

        rates = jnp.array([0.25, 0.5])
        radii = jnp.array([1e-2, 3e-3, 1e-3])
        starts = jnp.array([-1.2, 1.0]) + 0.05 * jax.random.normal(KEY, (9, 2))
        of_starts = jax.vmap(final, (None, None, 0))
        values = jax.jit(jax.vmap(jax.vmap(of_starts, (None, 0, None)), (0, None, None)))(
            radii, rates, starts
        )
        values = np.median(values, -1)
    assert (values.max(1) < [1e-3, 1e-5, 4e-7]).all(), values


@pytest.mark.parametrize(("towards", "low", "high"), [("previous", 0, 0.1), ("zero", 10, np.inf)])
def test_hessians_of_ten_planes_between_switches(towards, low, high, x64):
    """Relative errors at all of 60 steps on dense quadratics; far off if moves mean curvature."""
    rngs = [np.random.default_rng(seed) for seed in range(3)]
    problems = [(dense(rng, 20)[0], *rng.normal(size=(2, 20))) for rng in rngs]
    newton = zo.zo_sah_direction(10, 1e-2, key=KEY, ridge_towards=towards)

    def errors(h, slope, x):
        def body(carry, _):
            x, state = carry
            f = lambda x: slope @ x + x @ h @ x / 2  # noqa: E731
            direction, state = newton.update(None, state, x, value_fn=f)
            c = state.coordinates
            exact = h[c[:, :, None], c[:, None, :]]
            error = jnp.linalg.norm(state.hessians - exact, axis=(1, 2))
            return (x - 0.5 * direction, state), error / jnp.linalg.norm(exact, axis=(1, 2))

        return jnp.max(jax.lax.scan(body, (x, newton.init(x)), length=60)[1])

    worst = jax.jit(jax.vmap(errors))(
        *(jnp.asarray(np.stack(p)) for p in zip(*problems, strict=True))
    )
    assert ((worst >= low) & (worst < high)).all(), worst


def test_steps_that_add_up_do_not_diverge(x64):
    """All subspaces see one sum: ten Newton steps at once are ten times too long."""
    optimizer = zo.zo_sah(0.7, num_subspaces=10, radius=1e-3, key=KEY, clip=1e-3)
    f = lambda x: jnp.sum(x) ** 2 + 0.01 * jnp.sum(x**2)  # noqa: E731
    x = jnp.linspace(0, 1, 20)
    values = jax.vmap(f)(compiled_run(optimizer, f, x, 100)[0])
    assert jnp.max(values[19:]) < 0.1 < f(x)


def queried(newton, f, params, num_steps):
    """The points that each step evaluates, relative to params, which stay."""
    seen, out = [], []

    def spied(x):
        jax.debug.callback(lambda y: seen.append(np.ravel(y)), x)
        return f(x)

    state = newton.init(params)
    step = jax.jit(lambda s: newton.update(None, s, params, value_fn=spied)[1])
    for _ in range(num_steps):
        state = step(state)
        jax.effects_barrier()
        out.append(np.abs(np.concatenate(seen).reshape(-1, params.size) - params).max())
        seen.clear()
    return np.array(out)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"radius": 1e-1}, [1e-1, 1e-1], marks=pytest.mark.slow),
        ({"radius": 2e-3}, [0.00929, 2e-3]),
        pytest.param({"radius": 2e-4}, [2e-3, 2e-4], marks=pytest.mark.slow),
        pytest.param({"radius": 0.1, "curvature_radius": 0.3}, [0.3, 0.1], marks=pytest.mark.slow),
        ({"radius": lambda t: 0.1 + t, "curvature_radius": lambda t: 0.5 + t}, [0.5, 1.1]),
    ],
)
def test_curvature_radius(options, expected):
    newton = zo.zo_sah_direction(1, key=KEY, evaluate=zo.evaluators.chunked(1), **options)
    radii = queried(newton, lambda x: jnp.sum(x**2), jnp.zeros(2), 2)
    np.testing.assert_allclose(radii, expected, rtol=1e-3)


def test_empty_leaves_and_scalars_in_the_tree():
    tree = {"a": jnp.ones(3), "b": jnp.zeros((0, 2)), "c": jnp.asarray(2.0), "d": jnp.zeros(0)}
    newton = zo.zo_sah_direction(2, 0.1, key=KEY)

    def f(x):
        return jnp.sum(jnp.array([1.0, 2.0, 3.0]) * x["a"] ** 2) + x["c"] ** 2 + jnp.sum(x["b"])

    direction, _ = jax.jit(lambda s: newton.update(None, s, tree, value_fn=f))(newton.init(tree))
    jax.tree.map(lambda u, x: np.testing.assert_allclose(u, x, atol=1e-3), direction, tree)


def test_a_subspace_of_unknown_curvature_rests():
    """No −μe at a switch: no step there and none later; new subspaces at once where most rest."""
    newton = zo.zo_sah_direction(3, 0.1, key=KEY, switch_every=100)
    scales, x = jnp.arange(1.0, 7.0), jnp.ones(6)

    @jax.jit
    def step(state, limits):
        f = lambda x: jnp.where(jnp.any(x < limits), jnp.nan, scales @ x**2)  # noqa: E731
        return newton.update(None, state, x, value_fn=f)

    one, nobody, everybody = jnp.eye(6)[1] * 0.95, jnp.zeros(6), jnp.full(6, 0.95)
    state, charged = newton.init(x), []
    for limits in (everybody, everybody, one, nobody):
        direction, state = step(state, limits)
        charged.append(int(zo.num_queries(state)))
        resting = next(group for group in np.asarray(state.coordinates) if 1 in group)
        if limits is everybody:
            assert not direction.any() and not state.known.any()
        else:
            np.testing.assert_allclose(direction, ~np.isin(np.arange(6), resting), rtol=1e-3)
    assert np.diff([0, *charged]).tolist() == [16, 16, 16, 7]


@pytest.mark.parametrize(
    ("num_subspaces", "share"), [pytest.param(1, 0.8, marks=pytest.mark.slow), (4, 0.2)]
)
def test_missing_values_throw_no_run_away(num_subspaces, share):
    """Three in ten values missing: the largest value of thirty runs is not far above the first."""
    scales = jnp.geomspace(1, 10, 10)

    def f(x):
        return 0.5 * jnp.sum(scales * (x - 1) ** 2)

    def run(seed):
        keys = jax.random.split(jax.random.key(seed))
        options = {"radius": 0.01, "curvature_radius": 0.1, "switch_every": 5, "key": keys[0]}
        optimizer = zo.zo_sah(1.0, num_subspaces=num_subspaces, **options)
        x = jax.random.normal(keys[1], (10,))

        def step(carry, t):
            x, state = carry
            key = jax.random.fold_in(keys[1], t)

            def value_fn(y):
                missing = jax.random.uniform(jax.random.fold_in(key, hash_of(y))) < 0.3
                return jnp.where(missing, jnp.nan, f(y))

            updates, state = optimizer.update(None, state, x, value_fn=value_fn)
            x = optax.apply_updates(x, updates)
            return (x, state), f(x)

        _, values = jax.lax.scan(step, (x, optimizer.init(x)), jnp.arange(60))
        return jnp.max(values) / f(x), values[-1] / f(x)

    most, last = jax.lax.map(run, jnp.arange(30))
    assert float(jnp.max(most)) < 3
    assert float(jnp.median(last)) < share


def test_a_subspace_with_bad_values_rests():
    """One program: where x[1] is above the limit, f is NaN."""

    def cliff(x, limit):
        return jnp.where(x[1] > limit, jnp.nan, jnp.sum(jnp.arange(1.0, 7.0) * x**2))

    newton, x = zo.zo_sah_direction(3, 0.1, key=KEY), jnp.full(6, 0.5)
    first = newton.init(x)
    step = jax.jit(lambda limit: newton.update(None, first, x, value_fn=cliff, limit=limit))
    (bad, state), (good, _) = step(0.55), step(np.inf)
    bad, good = np.asarray(bad), np.asarray(good)
    resting = next(group for group in np.asarray(state.coordinates) if 1 in group)
    assert not bad[resting].any() and good.all()
    others = np.setdiff1d(np.arange(6), resting)
    np.testing.assert_array_equal(bad[others], good[others])
    assert int(state.counts.num_nonfinite) == 2  # θ + μe, θ + μ(e + e')
    nowhere, state = step(-np.inf)
    assert not nowhere.any() and int(state.counts.num_nonfinite) == 16


# Options -----------------------------------------------------------------------------------------


def test_isotropy_saves_the_curvature_queries():
    """Not evaluated, not charged; and steps are g over the mean curvature."""
    newton = zo.zo_sah_direction(
        4, 0.125, key=KEY, switch_every=2, isotropy_tolerance=0.1, num_probes=1
    )
    x = jnp.linspace(-1, 1, 10)
    steps = run(newton, lambda x: 2 * jnp.sum(x**2), x, 6)
    full, ordinary, probing = 1 + 8 + 12, 1 + 8, 1 + 8 + 3
    assert costs(steps) == [full, ordinary, probing, ordinary, probing, ordinary]
    for direction, state, _ in steps:
        moved = np.asarray(state.coordinates).ravel()
        np.testing.assert_allclose(direction[moved], x[moved], atol=1e-4)


@pytest.mark.slow
def test_anisotropy_is_measured_in_full():
    scales = jnp.arange(1.0, 11.0)
    newton = zo.zo_sah_direction(
        4, 0.1, key=KEY, switch_every=1, isotropy_tolerance=0.1, num_probes=2
    )
    steps = run(newton, lambda x: jnp.sum(scales * x**2), jnp.ones(10), 3)
    assert costs(steps) == [21] * 3
    plain = run(
        zo.zo_sah_direction(4, 0.1, key=KEY, switch_every=1),
        lambda x: jnp.sum(scales * x**2),
        jnp.ones(10),
        3,
    )
    for (direction, *_), (expected, *_) in zip(steps, plain, strict=True):
        np.testing.assert_allclose(direction, expected, rtol=1e-2)


def test_a_probe_ends_isotropy():
    """Curvature that changes is seen by the probe, and measured in full in the same step."""
    x = jnp.ones(10)
    newton = zo.zo_sah_direction(4, 0.1, key=KEY, switch_every=1, isotropy_tolerance=0.1)
    step = jax.jit(
        lambda s, scale: newton.update(
            None, s, x, value_fn=lambda x: jnp.sum((1 + scale * jnp.arange(10.0)) * x**2)
        )[1]
    )
    state, charged = newton.init(x), [0]
    for scale in (0.0, 0.0, 1.0):
        state = step(state, scale)
        charged.append(int(zo.num_queries(state)))
    assert np.diff(charged).tolist() == [21, 12, 21]
    assert not bool(state.isotropy.holds)


jitted_couple = jax.jit(couple)


def memory(*pairs):
    """Couplings with these (a, b, strength), strongest first; five slots."""
    a = np.array([*pairs, *[(-1, -1, 0)] * (5 - len(pairs))])
    return Couplings(jnp.asarray(a[:, :2], jnp.int32), jnp.asarray(a[:, 2], jnp.float32))


@pytest.mark.parametrize(
    ("groups", "pairs", "expected"),
    [
        ([[0, 1], [2, 3]], [(0, 3, 1)], [{0, 3}, {1, 2}]),  # both drawn: they change places
        ([[0, 1], [2, 3]], [(0, 9, 1)], [{0, 9}, {2, 3}]),  # the partner replaces a filler
        ([[0, 1], [2, 3]], [(3, 9, 1), (0, 3, 1)], [{0, 1}, {3, 9}]),  # the strongest wins
        ([[0, 1], [2, 3]], [(0, 1, 1), (1, 2, 1)], [{0, 1}, {2, 3}]),
        ([[0, 1], [2, 3]], [(8, 9, 1)], [{0, 1}, {2, 3}]),  # neither was drawn
        ([[0, 1], [2, 3]], [(0, 3, 0)], [{0, 1}, {2, 3}]),  # strength 0 never pairs
        ([[0, 1, 2], [3, 4, 5]], [(0, 5, 1), (4, 5, 1)], [{0, 4, 5}, {1, 2, 3}]),  # a chain
    ],
)
def test_couple(groups, pairs, expected):
    got = np.asarray(jitted_couple(KEY, jnp.array(groups), memory(*pairs)))
    assert {frozenset(g.tolist()) for g in got} == {frozenset(g) for g in expected}


def test_coupled_groups_stay_disjoint_and_follow_the_strengths():
    couplings = memory((0, 5, 0.9), (1, 5, 0.8), (2, 11, 0.5), (3, 4, 0.2), (7, 8, 0.1))

    def draw(key):
        first, second = jax.random.split(key)
        drawn = random_groups(first, 12, 3, 2)
        return drawn, couple(second, drawn, couplings)

    drawn, groups = map(np.asarray, jax.jit(jax.vmap(draw))(jax.random.split(KEY, 400)))
    assert all(len(set(g.ravel())) == 6 for g in groups)
    together = [{0, 5} in [set(pair.tolist()) for pair in g] for g in groups]
    one_drawn = [bool({0, 5} & set(g.ravel().tolist())) for g in drawn]
    assert 0.83 < np.sum(together) / np.sum(one_drawn) < 0.97


def test_remember_keeps_the_strongest_and_renews(x64):
    groups = jnp.array([[4, 1], [2, 3]])
    hessians = jnp.array([[[4.0, 1.0], [1.0, 1.0]], [[1.0, -3.0], [-3.0, -9.0]]])
    old = Couplings(jnp.array([[1, 4], [0, 7], [-1, -1]], jnp.int32), jnp.array([0.9, 0.7, 0.0]))
    new = jax.jit(remember)(old, groups, hessians, 0.1)
    np.testing.assert_array_equal(new.pairs, [[2, 3], [0, 7], [1, 4]])
    np.testing.assert_allclose(new.strengths, [1.0, 0.7, 0.5])
    left_out = jnp.array([[-1, -1], [2, 3]])
    kept = jax.jit(remember)(old, left_out, hessians.at[0].set(0), 0.1)
    np.testing.assert_array_equal(kept.pairs, [[2, 3], [1, 4], [0, 7]])
    assert not no_couplings(2).strengths.any()


def test_pairing_finds_the_couplings(x64):
    """Pairs (i, i + 4) with correlation 0.98: found, kept, and worth their queries."""
    h = jnp.kron(jnp.array([[1.0, 0.98], [0.98, 1.0]]), jnp.eye(4))
    x = jnp.asarray(np.random.default_rng(2).normal(size=8))
    final = {}
    for pairing in ("random", "coupled"):
        newton = zo.zo_sah_direction(4, 1e-5, key=KEY, switch_every=2, clip=1e-3, pairing=pairing)

        def body(carry, _, newton=newton):
            x, state = carry
            v, state = newton.update(None, state, x, value_fn=lambda x: x @ h @ x / 2)
            return (x - 0.5 * v, state), state.coordinates

        scan = jax.jit(lambda c, body=body: jax.lax.scan(body, c, length=80))
        (y, state), groups = scan((x, newton.init(x)))
        mates = np.abs(np.diff(np.asarray(groups)[-20:], axis=-1)) == 4
        final[pairing] = float(y @ h @ y / 2), mates.mean(), int(zo.num_queries(state))
    assert final["random"][2] == final["coupled"][2]
    assert final["coupled"][1] > 0.8 > 0.4 > final["random"][1]
    assert final["coupled"][0] < 0.1 * final["random"][0]


# Against first order -----------------------------------------------------------------------------


def test_beats_zo_sgd_where_curvatures_differ(x64):
    """Condition number 1000 in pairs: at equal queries, against the best of a grid of rates."""
    scales = jnp.logspace(0, 3, 8)
    f = lambda x: jnp.sum(scales * x**2) / 2 + x[0] * x[1] / 2  # noqa: E731

    def after(optimizer, budget=600):
        def body(carry):
            x, state = carry
            updates, state = optimizer.update(None, state, x, value_fn=f)
            return optax.apply_updates(x, updates), state

        def go_on(carry):
            return zo.num_queries(carry[1]) < budget

        carry = jnp.ones(8), optimizer.init(jnp.ones(8))
        return f(jax.lax.while_loop(go_on, body, carry)[0])

    rates = jnp.asarray([3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5])
    options = {"radius": 1e-3, "key": KEY}
    sgd = jax.jit(jax.vmap(lambda rate: after(zo.zo_sgd(rate, num_directions=8, **options))))(rates)
    sah = jax.jit(lambda: after(zo.zo_sah(0.7, num_subspaces=4, **options)))()
    best = int(jnp.nanargmin(sgd))
    assert 0 < best < len(rates) - 1
    assert float(sah) < 0.2 * float(sgd[best])


# Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_subspaces": 0}, "num_subspaces must be an int of at least 1, got 0"),
        ({"subspace_dimension": 0}, "subspace_dimension must be"),
        ({"switch_every": 0}, "switch_every must be"),
        ({"num_probes": 0}, "num_probes must be"),
        ({"clip": 0.0}, "clip must be a finite number greater than 0"),
        ({"ridge": -1.0}, "ridge must be"),
        ({"radius": 0.0}, "radius must be"),
        ({"curvature_radius": -1.0}, "curvature_radius must be"),
        ({"isotropy_tolerance": 0.0}, "isotropy_tolerance must be"),
        ({"pairing": "best"}, "pairing must be one of .*got 'best'"),
        ({"ridge_towards": "up"}, "ridge_towards must be one of .*got 'up'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        zo.zo_sah(**{"learning_rate": 0.1, "num_subspaces": 2, "radius": 0.1, "key": KEY} | options)


def test_bad_calls():
    newton = zo.zo_sah_direction(2, 0.1, key=KEY)
    with pytest.raises(ValueError, match=r"num_subspaces=2 .* need 4 parameters, and params has 3"):
        newton.init(jnp.ones(3))
    state = newton.init(jnp.ones(4))
    with pytest.raises(TypeError, match="zo_sah_direction needs the objective"):
        newton.update(None, state, jnp.ones(4))
    with pytest.raises(TypeError, match="zo_sah_direction needs the parameters"):
        newton.update(None, state, value_fn=jnp.sum)
    with pytest.raises(TypeError, match="scalar float; got shape"):
        newton.update(None, state, jnp.ones(4), value_fn=lambda x: x)
