"""Say where a classifier should doubt.

A network tells three irises apart by their petals, and is as sure far from all flowers as among
them. `zo.laplace` measures the curvature of its loss, by values; the average over networks that fit
the data as well is sure only where there are flowers.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn import datasets

import zovh_jax as zo


def main(steps=300, samples=200):
    """Draws the probability of the likeliest iris, for the best network and on average."""
    petals, y = datasets.load_iris(return_X_y=True)
    petals = petals[:, 2:]
    centre, width = petals.mean(0), petals.std(0)

    def logits(network, petals):
        hidden = jnp.tanh((petals - centre) / width @ network["in"] + network["in bias"])
        return hidden @ network["out"] + network["out bias"]

    def misfit(network):  # summed over the flowers
        return optax.softmax_cross_entropy_with_integer_labels(logits(network, petals), y).sum()

    def objective(network):  # with the prior N(0, 1)
        return misfit(network) + optax.tree.norm(network, squared=True) / 2

    shapes = {"in": (2, 8), "in bias": (8,), "out": (8, 3), "out bias": (3,)}
    keys = dict(zip(shapes, jax.random.split(jax.random.key(0), 4), strict=True))
    network = {name: jax.random.normal(keys[name], shapes[name]) for name in shapes}
    optimizer = zo.scalar_newton(8, 0.1, key=jax.random.key(1), noise=0)

    def step(run, _):
        updates, state = optimizer.update(None, run[1], run[0], value_fn=objective)
        return (optax.apply_updates(run[0], updates), state), None

    run = network, optimizer.init(network)
    (network, state), _ = jax.jit(lambda run: jax.lax.scan(step, run, length=steps))(run)
    posterior = zo.laplace(
        misfit,
        network,
        prior_precision=1.0,
        structure=zo.structures.full(),
        radius=0.05,
        key=jax.random.key(2),
    )

    grid = jnp.stack(jnp.meshgrid(jnp.linspace(-1, 10, 120), jnp.linspace(-1, 4, 120)), -1)
    sure = jax.nn.softmax(logits(network, grid))
    networks = posterior.sample(jax.random.key(3), samples)
    doubting = jax.nn.softmax(jax.vmap(logits, (0, None))(networks, grid)).mean(0)
    figure, panels = plt.subplots(1, 2, figsize=(7, 4), sharey=True, layout="constrained")
    titles = "the best network", f"the average of {samples}"
    for ax, p, title in zip(panels, (sure, doubting), titles, strict=True):
        drawn = ax.contourf(*grid.T, p.max(-1).T, np.linspace(0.3, 1, 15), cmap="cividis")
        for iris, marker in enumerate("os^"):
            ax.plot(*petals[y == iris].T, "w" + marker, markeredgecolor="k", markersize=4)
        ax.set(title=title, xlabel="petal length (cm)")
    panels[0].set_ylabel("petal width (cm)")
    figure.colorbar(drawn, ax=panels, label="probability of the likeliest iris")
    queries = int(zo.num_queries(state)) + posterior.num_queries
    return figure, {"queries": queries, "sure": sure.max(-1), "doubting": doubting.max(-1)}


if __name__ == "__main__":
    print(main()[1])
    plt.show()
