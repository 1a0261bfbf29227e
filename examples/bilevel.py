"""A bilevel problem by values alone: which of the measurements are wrong?

    python examples/bilevel.py

A line is fitted to measurements, some of which are wrong. Each has a weight, σ(x), and x is learnt
so that the fit (inner, over y) is good on a few measurements that are known to be right (outer).
This is the loop for any such problem: a few steps on y from where it was, the hypergradient of x
from where its last solve ended, and a step of optax's.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zovh_jax as zo

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.normal(size=6)
FEATURES = RANDOM.normal(size=(60, 6)).astype(np.float32)
NOISE = 0.1 * RANDOM.normal(size=60)
WRONG = np.arange(60) < 15
TARGETS = np.where(WRONG, 4.0, FEATURES @ TRUTH + NOISE).astype(np.float32)
TRUSTED = slice(48, 60)  # the others are for the fit


def inner(x, y):
    """The weighted loss of the fit; nothing here needs a derivative."""
    losses = jnp.square(FEATURES[:48] @ y - TARGETS[:48])
    return jnp.mean(jax.nn.sigmoid(x) * losses) + 0.01 * jnp.sum(jnp.square(y))


def outer(x, y):
    """The loss on measurements that are right."""
    return jnp.mean(jnp.square(FEATURES[TRUSTED] @ y - TARGETS[TRUSTED]))


def main(argv=None):
    """Learns the weights; returns the outer loss before and after, and the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args(argv)

    inner_gradient = zo.grad(
        inner, 1, num_directions=8, radius=1e-3, directions=zo.directions.hadamard()
    )
    hypergradient = zo.hypergradient(
        outer,
        inner,
        radius=0.1,
        solver=zo.solvers.neumann(4, step_size=0.3),
        direct=False,  # outer depends on y alone
        return_info=True,
    )
    fit, learn = optax.sgd(0.3), optax.adam(0.3)

    def fitted(x, y, key, steps):
        """Y after some steps on the inner problem."""

        def step(carry, key):
            y, state = carry
            updates, state = fit.update(inner_gradient(x, y, key=key), state)
            return (optax.apply_updates(y, updates), state), None

        return jax.lax.scan(step, (y, fit.init(y)), jax.random.split(key, steps))[0][0]

    @jax.jit
    def step(run, key):
        x, y, solution, state = run
        keys = jax.random.split(key)
        y = fitted(x, y, keys[0], 5)
        gradient, info = hypergradient(x, y, key=keys[1], start=solution)
        updates, state = learn.update(gradient, state, x)
        return (optax.apply_updates(x, updates), y, info.solution, state), info

    x, key = jnp.zeros(48), jax.random.key(0)
    y = fitted(x, jnp.zeros(6), key, 100)
    before = float(outer(x, y))
    run = x, y, jnp.zeros(6), learn.init(x)
    for i in range(options.steps):
        run, info = step(run, jax.random.fold_in(key, i))
    x, y, _, _ = run
    weights = jax.nn.sigmoid(x)
    after = float(outer(x, y))
    print(f"loss on what is right: {before:.3f} before, {after:.3f} after")
    for name, which in ("wrong", WRONG[:48]), ("right", ~WRONG[:48]):
        print(f"mean weight of what is {name}: {float(jnp.mean(weights[which])):.2f}")
    print(f"{info.num_queries} values and {5 * 8} of the fit in each step")
    return before, after, weights


if __name__ == "__main__":
    main()
