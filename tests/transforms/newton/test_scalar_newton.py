"""scalar_newton against a float64 numpy transcription, and what it does on hard objectives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import walks

import zovh_jax as zo
from zovh_jax._tree import layout_of

pytestmark = pytest.mark.usefixtures("fast_compilation")
K, D = 4, 12


def run(f, x, num_steps, num_directions=K, radius=0.1, **options):
    """(parameters after each step, states)."""
    optimizer = zo.scalar_newton(num_directions, radius, key=jax.random.key(0), **options)
    return walks.run(optimizer, f, x, num_steps)


def anharmonic(x):
    return jnp.sum(jnp.arange(1.0, D + 1) * x**2) + jnp.sum(x**4) + jnp.prod(jnp.cos(x))


class Transcription:
    """The algorithm of the module's docstring, in numpy and without its guards."""

    def __init__(self, f, x, radius, decay, share, paired):
        self.f, self.x, self.mu, self.decay, self.share = f, x, radius, decay, share
        self.paired = paired
        self.limit = radius * np.sqrt(D)
        self.samples, self.weights = np.zeros(0), np.zeros(0)
        self.curvatures, self.weight = 0.0, 0.0  # sums; the first one is a guess
        self.last = None  # step, slope, f before, slope's error

    def trace(self):
        w = self.weights
        mean = np.average(self.samples, weights=w)
        effective = w.sum() ** 2 / np.sum(w**2)
        variance = np.average(np.square(self.samples - mean), weights=w) / (effective - 1)
        return mean, np.sqrt(variance)

    @property
    def curvature(self):
        return self.curvatures / self.weight

    def remember(self, curvature):
        self.curvatures = self.decay * self.curvatures + (1 - self.decay) * curvature
        self.weight = self.decay * self.weight + (1 - self.decay)

    def step(self, u):
        f0, d = self.f(self.x), D
        noise = 10 * np.finfo(np.float64).eps * abs(f0)
        if self.last is not None:
            p, slope, before, slope_error = self.last
            length, change = np.linalg.norm(p), f0 - before
            promised = slope + self.curvature * length**2 / 2
            error = 2 * (noise + slope_error) / length**2
            weight = 1 / (1 + (error / self.curvature) ** 2)
            kappa = weight * abs(2 * (change - slope) / length**2)
            kappa += (1 - weight) * self.curvature / 2
            failed = change > abs(promised) + noise
            if failed:
                self.limit = length / 4
            elif change / promised > 0.5:
                self.limit = max(self.limit, 2 * length)
            elif change / promised < 0.25:
                self.limit = length / 2
            self.remember(kappa)
        plus = np.array([self.f(self.x + self.mu * v) for v in u])
        minus = np.array([self.f(self.x - self.mu * v) for v in u])
        even = (plus + minus) / 2 if self.paired else plus
        past = self.trace()[0] if len(self.samples) else None
        new = 2 * (even - f0) / self.mu**2
        self.samples = np.append(self.samples, new)
        self.weights = np.append(self.weights * self.decay, np.ones(K))
        trace, error = self.trace()
        if self.paired:
            slopes = (plus - minus) / (2 * self.mu)
        else:
            slopes = (plus - f0) / self.mu - self.mu / 2 * (trace if past is None else past)
        if self.last is not None and failed:
            self.x = self.x - self.last[0]
            self.mu = min(self.mu, self.limit / np.sqrt(d))
            self.last = None
            return True
        if self.weight == 0:
            self.remember(max(abs(trace), 2 * error) / d)
        g = slopes @ u
        m = min(self.share / self.curvature, self.limit / np.linalg.norm(g))
        p = -m * g
        slope_error = 0 if self.paired else m * abs(slopes.sum()) * self.mu / 2 * error
        self.last = p, -m * np.sum(slopes**2), f0, slope_error
        self.x = self.x + p
        wanted = max(np.linalg.norm(p) / np.sqrt(d), np.sqrt(10 * noise / (self.curvature * d)))
        self.mu = np.clip(wanted, self.mu / 2, 2 * self.mu)
        return False


@pytest.mark.parametrize(
    "stencil",
    [zo.stencils.forward(), pytest.param(zo.stencils.three_point(), marks=pytest.mark.slow)],
)
def test_transcription(stencil, x64):
    """Forty steps, with one that is taken back, to rounding."""
    num_steps, key = 40, jax.random.key(0)

    def sudden(x):
        """With a step up that curvature does not announce."""
        return anharmonic(x) + 5.0 * (jnp.sum(x) > -1.0)

    x = jnp.linspace(-1, 0.7, D)
    xs, states = run(sudden, x, num_steps, radius=0.3, stencil=stencil)
    directions, layout = zo.directions.hadamard(), layout_of(x)
    compiled = jax.jit(sudden)
    f = lambda x: float(compiled(x))  # noqa: E731
    slow = Transcription(f, np.asarray(x), 0.3, np.exp(-K / 100), 1 / D, stencil.paired)
    undone = []
    for t in range(num_steps):
        of_round = directions.round_key(jax.random.fold_in(key, 0), t, layout, K)
        u = np.asarray(zo.Plan(of_round, directions, num_directions=K).draw(x))
        undone.append(slow.step(u))
        np.testing.assert_allclose(xs[t], slow.x, rtol=1e-6, atol=1e-8, err_msg=f"step {t}")
        np.testing.assert_allclose(states.trust.radius[t], slow.mu, rtol=1e-6)
    assert any(undone) and not all(undone)
    np.testing.assert_array_equal(states.trust.num_undone, np.cumsum(undone))
    assert f(xs[-1]) < 0.5 * f(x)


@pytest.mark.parametrize(
    "stencil",
    [pytest.param(zo.stencils.forward(), marks=pytest.mark.slow), zo.stencils.three_point()],
)
def test_an_isotropic_quadratic_is_done_in_epochs(stencil, x64):
    """Each epoch of d slopes leaves little of the gap; random directions would leave 1/e."""
    x = jax.random.normal(jax.random.key(1), (128,))
    xs, _ = run(zo.problems.quadratic(), x, 5 * 16, num_directions=8, stencil=stencil)
    f = jax.vmap(zo.problems.quadratic())(xs)
    assert f[15] < 0.2 * f[0] and f[-1] < 1e-5 * f[0]


HARD = {
    "flat": lambda x, t: 3.0 + 0 * jnp.sum(x),
    "linear": lambda x, t: jnp.sum(x),
    "concave": lambda x, t: -jnp.sum(x**2),
    "kink": lambda x, t: jnp.sum(jnp.abs(x)),
    "quartic": lambda x, t: jnp.sum(x**4),
    "one steep parameter": lambda x, t: 1e5 * x[0] ** 2 + jnp.sum(x**2),
    "undefined outside": lambda x, t: jnp.sum(jnp.where(x > -1.5, (x - 1) ** 2, jnp.nan)),
}


def bowl(x):
    return jnp.sum((x - 3) ** 2)


OBJECTIVES = HARD | {
    "nowhere beyond a sphere": lambda x, t: jnp.where(jnp.sum(x**2) > 24.5, jnp.nan, bowl(x)),
    "nowhere at the start": lambda x, t: jnp.where(jnp.abs(x[0]) < 0.05, jnp.nan, bowl(x)),
    "blackout": lambda x, t: jnp.where((t > 3) & (t < 8), jnp.nan, bowl(x)),
    "infinite far out": lambda x, t: jnp.where(jnp.max(jnp.abs(x)) < 100, bowl(x), jnp.inf),
}
"""Functions of 24 parameters and the step's number."""
of_all = walks.program(
    lambda radius: zo.scalar_newton(6, radius, key=jax.random.key(0)), [*OBJECTIVES.values()], 100
)


@jax.jit
def value_of(number, x):
    return jax.lax.switch(number, [*OBJECTIVES.values()], x, 0)


def walk(name, x, num_steps, radius=0.01):
    """The parameters after each step on one of the objectives."""
    xs, _ = of_all(list(OBJECTIVES).index(name), np.float32(x), radius)
    return np.asarray(xs[:num_steps])


@pytest.mark.parametrize("name", HARD)
def test_sane_on_hard_objectives(name):
    """Downhill on all that has a downhill, never up by more than a step in between."""
    x = np.asarray(jax.random.uniform(jax.random.key(1), (24,), minval=-1.0))
    xs = walk(name, x, 60)
    assert np.isfinite(xs).all()
    if name == "flat":
        assert np.array_equal(xs[-1], x)
        return
    before, first, end = (float(value_of(list(HARD).index(name), x)) for x in (x, xs[0], xs[-1]))
    assert first <= before + 0.01 * abs(before)
    assert before - end > (100 if name in ("linear", "concave") else 0.5 * before)
    assert np.isfinite(end)


def test_a_step_to_nowhere_is_taken_back():
    """f is not a number beyond a sphere that the first steps reach."""
    x = np.ones(24)
    points = np.concatenate([x[None], walk("nowhere beyond a sphere", x, 40)])
    outside = np.sum(points**2, 1) > 24.5
    lost = np.flatnonzero(outside)
    assert 0 < len(lost) < 20
    for i in lost[lost < len(points) - 1]:
        if not outside[i - 1]:
            np.testing.assert_allclose(points[i + 1], points[i - 1], atol=1e-5)


def test_a_start_at_nowhere_is_left():
    """f(θ) is not a number, some of its neighbours' values are."""
    end = walk("nowhere at the start", np.zeros(24), 30, radius=0.1)[-1]
    assert abs(end[0]) >= 0.05 and np.sum((end - 3) ** 2) < 0.2 * 216


@pytest.mark.parametrize("name", ["levy", pytest.param("rosenbrock", marks=pytest.mark.slow)])
def test_starts_of_all_scales(name):
    f = getattr(zo.problems, name)()

    @jax.jit
    def ends(scale):
        x = scale * f.start(50, jax.random.key(0))
        return f(x), f(run(f, x, 100, num_directions=5, radius=0.01)[0][-1])

    for scale in (0.1, 0.3, 1.0, 3.0, 10.0):
        first, last = ends(scale)
        assert last < first, scale


@pytest.mark.slow  # as the tests of noisy values
def test_noise_is_lived_with():
    """With its standard deviation known, the end is near what noise allows; unknown, no worse
    than the start."""
    x = jnp.full(32, 3.0)

    def mean_of_last(noise):
        optimizer = zo.scalar_newton(8, 0.1, key=jax.random.key(0), noise=noise)

        def step(carry, t):
            x, state = carry

            def f(y):
                bits = jax.lax.bitcast_convert_type(y, jnp.int32)
                key = jax.random.fold_in(jax.random.key(1), jnp.sum(bits) + t)
                return jnp.sum(y**2) + 0.1 * jax.random.normal(key)

            updates, state = optimizer.update(None, state, x, value_fn=f)
            x = optax.apply_updates(x, updates)
            return (x, state), jnp.sum(x**2)

        carry = x, optimizer.init(x)
        return np.mean(jax.jit(lambda: jax.lax.scan(step, carry, jnp.arange(400))[1])()[-100:])

    assert mean_of_last(0.1) < 1.0
    assert mean_of_last(0.0) < 288


def test_the_radius_stays_above_rounding():
    x = jnp.full(32, 1.0)
    f = lambda x: 1e4 + jnp.sum(x**2)  # noqa: E731
    xs, states = run(f, x, 200, num_directions=8)
    # ½μ²·c·d ≥ 5·(10 ε |f|), with c = 2.
    floor = np.sqrt(2 * 5 * 10 * np.finfo(np.float32).eps * 1e4 / (2 * 32))
    assert np.asarray(states.trust.radius).min() > 0.5 * floor
    assert float(f(xs[-1])) < 1e4 + 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"noise": -1.0}, "noise must be a number"),
        ({"memory": 0.0}, "memory must be"),
        ({"radius": 0.0}, "radius must be"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        zo.scalar_newton(
            **({"num_directions": 4, "radius": 0.1, "key": jax.random.key(0)} | options)
        )


def test_directions_of_unknown_moments_raise():
    directions = zo.directions.explicit(jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="must know the moments"):
        zo.scalar_newton(4, 0.1, key=jax.random.key(0), directions=directions)


def test_pairs_without_the_origin_raise():
    for factory in (zo.scalar_newton, zo.low_rank_newton):
        with pytest.raises(ValueError, match="does not ask for f"):
            factory(4, 0.1, key=jax.random.key(0), stencil=zo.stencils.central())


def test_a_blackout_is_survived():
    """Rounds in which nothing is finite leave no mark."""
    end = walk("blackout", np.zeros(24), 60, radius=0.1)[-1]
    assert np.sum((end - 3) ** 2) < 1e-2


@pytest.mark.parametrize("radius", [1e-3, 1e3])
def test_a_first_radius_that_is_off_by_far(radius):
    """A thousandth of the way to go; and so large that all queries are where f is infinite."""
    end = walk("infinite far out", np.ones(24), 100, radius)[-1]
    assert np.max(np.abs(end)) < 100 and np.sum((end - 3) ** 2) < 0.1  # from 96
