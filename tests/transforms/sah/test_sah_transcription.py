"""ZO-SAH, beside a slow re-implementation in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ravel
from planes import KEY, points

import zovh_jax as zo
from zovh_jax.transforms.sah.groups import forward_points

pytestmark = pytest.mark.usefixtures("fast_compilation")


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
