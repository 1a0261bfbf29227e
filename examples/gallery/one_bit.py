"""Train a classifier of one bit a weight.

Only the signs of the weights count, so that the derivative of the loss is zero. Taking the signs of
a trained classifier costs many of its right answers; training on, by values of the loss with the
signs in it, wins most of them back.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn import datasets

import zovh_jax as zo


def main(steps=1000):
    """Draws the signs for real digits, and the share of 600 held out that is told right."""
    images, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = jnp.asarray(images[order] / 16), jnp.asarray(labels[order])

    def right(weights):
        return jnp.mean(jnp.argmax(x[:600] @ weights, 1) == y[:600])

    def loss(weights, scale, rows):
        logits = scale * (x[rows] @ weights)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

    def loss_of_signs(params, rows):
        return loss(jnp.sign(params["weights"]), params["scale"], rows)

    full, adam = jnp.zeros((64, 10)), optax.adam(0.03)
    state = adam.init(full)
    gradient = jax.jit(jax.grad(lambda weights: loss(weights, 1.0, np.arange(600, len(y)))))
    for _ in range(150):  # with derivatives, as there are no signs yet
        updates, state = adam.update(gradient(full), state)
        full = optax.apply_updates(full, updates)

    rate = optax.cosine_decay_schedule(0.01, steps)
    optimizer = zo.fzoo(rate, num_directions=16, radius=0.2, key=jax.random.key(0))

    def step(run, key):
        params, state = run
        rows = jax.random.randint(key, (256,), 600, len(y))
        updates, state = optimizer.update(None, state, params, value_fn=loss_of_signs, rows=rows)
        params = optax.apply_updates(params, updates)
        return (params, state), right(jnp.sign(params["weights"]))

    start = {"weights": full / jnp.std(full), "scale": jnp.array(0.3)}
    keys = jax.random.split(jax.random.key(1), steps)
    run = jax.jit(lambda run: jax.lax.scan(step, run, keys))
    (params, state), accuracy = run((start, optimizer.init(start)))

    figure = plt.figure(figsize=(7, 4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.6])
    for i, ax in enumerate(above.subplots(2, 10).flat):
        weights = (full / 3, jnp.sign(params["weights"]))[i // 10][:, i % 10]
        ax.imshow(weights.reshape(8, 8), cmap="PuOr", vmin=-1.2, vmax=1.2)
        ax.set(xticks=[], yticks=[], title=i if i < 10 else "")
        ax.set_ylabel({0: "before", 10: "after"}.get(i, ""))
    ax = below.subplots()
    ax.plot(17 * np.arange(1, steps + 1), accuracy, "C0", label="one bit, trained")
    levels = {"all bits": float(right(full)), "their signs": float(right(jnp.sign(full)))}
    for (name, level), colour in zip(levels.items(), ("k", "C1"), strict=True):
        ax.axhline(level, color=colour, linestyle="--", label=name)
    ax.set(xlabel="queries", ylabel="told right", ylim=(0.78, 1))
    ax.legend(ncols=3, loc="upper center")
    result = {"queries": int(zo.num_queries(state)), "trained": float(accuracy[-1])}
    return figure, result | levels


if __name__ == "__main__":
    print(main()[1])
    plt.show()
