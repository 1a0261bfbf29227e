"""Learn a penalty for each feature.

Ten measurements of diabetes patients go into a regression together with ten that are shuffled, and
so worthless. `zo.hypergradient` finds, from values alone, how the penalties of the fit change its
loss on other patients: half of the weight of what is worthless goes, and new patients gain.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn import datasets

import zovh_jax as zo


def main(steps=30, inner_steps=20):
    """Draws the regression's weights and its losses, beside those of the best common penalty."""
    data, random = datasets.load_diabetes(), np.random.default_rng(0)
    order = random.permutation(len(data.target))
    real, target = data.data[order], data.target[order]
    x = np.hstack([real, random.permuted(real, axis=0)])
    x, y = jnp.asarray(x / x.std(0)), jnp.asarray((target - target.mean()) / target.std())
    fit, others, test = slice(150), slice(150, 300), slice(300, None)

    def loss(w, rows):
        return jnp.mean((x[rows] @ w - y[rows]) ** 2)

    def inner(penalties, w):
        return loss(w, fit) + jnp.sum(5 * jax.nn.sigmoid(penalties) * w**2)

    def outer(penalties, w):
        return loss(w, others)

    options = {"directions": zo.directions.hadamard(), "stencil": zo.stencils.central()}
    descent = zo.grad(inner, 1, num_directions=32, radius=0.01, **options)
    options = {"radius": 0.1, "solver": zo.solvers.cg(max_steps=10), "return_info": True}
    hypergradient = zo.hypergradient(outer, inner, direct=False, **options)
    adam = optax.adam(0.2)

    @jax.jit
    def step(run, key):
        penalties, w, solution, state = run
        for_w, for_penalties = jax.random.split(key)
        keys = jax.random.split(for_w, inner_steps)
        w = jax.lax.scan(lambda w, k: (w - 0.06 * descent(penalties, w, key=k), None), w, keys)[0]
        slope, info = hypergradient(penalties, w, key=for_penalties, start=solution)
        updates, state = adam.update(slope, state)
        run = optax.apply_updates(penalties, updates), w, info.solution, state
        return run, (loss(w, others), loss(w, test), 2 * 32 * inner_steps + info.num_queries)

    run = jnp.full(20, -4.0), jnp.zeros(20), jnp.zeros(20), adam.init(jnp.zeros(20))
    keys = jax.random.split(jax.random.key(0), steps)
    (_, w, _, _), (for_others, for_test, queries) = jax.lax.scan(step, run, keys)

    def common(penalty):  # exactly
        return jnp.linalg.solve(x[fit].T @ x[fit] + 150 * penalty * jnp.eye(20), x[fit].T @ y[fit])

    ridges = jax.vmap(common)(jnp.geomspace(1e-3, 10, 50))
    ridge = ridges[jnp.argmin(jax.vmap(loss, (0, None))(ridges, others))]

    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
    left.barh(np.arange(20) - 0.2, ridge, 0.4, color="C2", label="one penalty")
    left.barh(np.arange(20) + 0.2, w, 0.4, color="C0", label="learnt")
    left.set_yticks(range(20), [*data.feature_names, *["shuffled"] * 10], fontsize="x-small")
    left.invert_yaxis()
    left.set_xlabel("weight")
    left.legend()
    spent = np.cumsum(queries)
    right.plot(spent, for_others, "C1", label="patients of the outer loss")
    right.plot(spent, for_test, "C0", label="new patients")
    right.axhline(loss(ridge, others), color="C1", linestyle="--")
    right.axhline(loss(ridge, test), color="C0", linestyle="--")
    right.plot([], [], "k--", label="the best one penalty")
    right.set(xlabel="queries", title="mean squared error")
    right.legend(loc="upper right", bbox_to_anchor=(1, 0.93))
    result = {"queries": int(spent[-1]), "test": float(for_test[-1])}
    sizes = {"shuffled": float(jnp.linalg.norm(w[10:]) / jnp.linalg.norm(ridge[10:]))}
    return figure, result | sizes | {"ridge": float(loss(ridge, test))}


if __name__ == "__main__":
    print(main()[1])
    plt.show()
