"""See a network's Hessian without a derivative.

A network of 43 weights has 946 different second derivatives. From values of its loss around the
weights comes the matrix nearest to an average curvature that explains them: a first idea from few,
and all of it once there are as many pairs of values as unknowns.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from jax.flatten_util import ravel_pytree
from sklearn import datasets

import zovh_jax as zo


def main(counts=(100, 500, 1200), steps=100):
    """Draws the estimates for a network that tells irises apart beside `jax.hessian`."""
    x, y = datasets.load_iris(return_X_y=True)
    x = jnp.asarray((x - x.mean(0)) / x.std(0))
    shapes = {"in": (4, 5), "in bias": (5,), "out": (5, 3), "out bias": (3,)}
    keys = dict(zip(shapes, jax.random.split(jax.random.key(0), 4), strict=True))
    network = {name: 0.5 * jax.random.normal(keys[name], shapes[name]) for name in shapes}

    def loss(network):
        hidden = jnp.tanh(x @ network["in"] + network["in bias"])
        logits = hidden @ network["out"] + network["out bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    adam = optax.adam(0.03)
    state = adam.init(network)

    @jax.jit
    def step(network, state):
        updates, state = adam.update(jax.grad(loss)(network), state)
        return optax.apply_updates(network, updates), state

    for _ in range(steps):
        network, state = step(network, state)

    def estimate(pairs):
        queries = zo.query(
            loss,
            network,
            jax.random.key(1),
            num_directions=pairs,
            radius=0.03,
            stencil=zo.stencils.three_point(),
        )
        return zo.estimators.interpolated_hessian(queries, network).as_matrix()

    values = [2 * pairs + 1 for pairs in counts]
    found = [jax.jit(estimate, static_argnums=0)(pairs) for pairs in counts]
    flat, tree_of = ravel_pytree(network)
    exact = jax.hessian(lambda flat: loss(tree_of(flat)))(flat)
    errors = [float(jnp.linalg.norm(H - exact) / jnp.linalg.norm(exact)) for H in found]

    figure, panels = plt.subplots(1, len(found) + 1, figsize=(7, 2.4), layout="constrained")
    below = [f"{n:,} values\nerror {error:.2f}" for n, error in zip(values, errors, strict=True)]
    most = float(jnp.max(jnp.abs(exact))) ** 0.5
    for ax, H, text in zip(panels, [*found, exact], [*below, "jax.hessian\n"], strict=True):
        roots = jnp.sign(H) * jnp.sqrt(jnp.abs(H))  # the small ones are to be seen too
        ax.imshow(roots, cmap="PuOr", vmin=-most, vmax=most)
        ax.set(xticks=[], yticks=[], xlabel=text)
    return figure, {"queries": sum(values), "errors": errors}


if __name__ == "__main__":
    print(main()[1])
    plt.show()
