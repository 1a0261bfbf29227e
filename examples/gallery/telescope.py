"""Hold a star sharp through moving air.

A mirror of twenty bends is to undo what the air does to a telescope, and all it gets is the
brightness at the star's place, twice a step. Directions that do not repeat themselves
(`zo.directions.hadamard`), or old values used again, keep up with the air better than fresh random
directions.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import zovh_jax as zo

across = np.linspace(-1, 1, 32)
PUPIL = np.hypot(across, across[:, None]) <= 1  # the telescope's opening
_powers = [across[:, None] ** i * across ** (n - i) for n in range(6) for i in range(n + 1)]
BENDS = np.zeros((20, 32, 32), np.float32)  # orthonormal on it; without what is the same all over
BENDS[:, PUPIL] = np.linalg.qr(np.stack([p[PUPIL] for p in _powers], 1))[0].T[1:]


def light(bends):
    """The light in the opening, a complex number a place."""
    return PUPIL * jnp.exp(1j * PUPIL.sum() ** 0.5 * jnp.tensordot(bends, BENDS, 1)) / PUPIL.sum()


def loss(mirror, air):
    """1 − brightness, which is 1 where the mirror undoes the air."""
    return 1 - jnp.abs(jnp.sum(light(air + mirror))) ** 2


def picture(bends):
    """The star as it is seen."""
    return jnp.abs(jnp.fft.fftshift(jnp.fft.fft2(light(bends), (128, 128)))) ** 2


def run(optimizer, air):
    """The mirror after each step in air that moves between them, and the brightness."""

    def step(carry, air):
        mirror, state = carry
        updates, state = optimizer.update(None, state, mirror, value_fn=loss, air=air)
        mirror = optax.apply_updates(mirror, updates)
        return (mirror, state), (mirror, 1 - loss(mirror, air))

    mirror = jnp.zeros(20)
    return jax.lax.scan(step, (mirror, optimizer.init(mirror)), air)[1]


def main(steps=400):
    """Draws exposures with and without the mirror, and the brightness.

    Learning rates are those that are best in other air.
    """
    pushes = 0.35 * jax.random.normal(jax.random.key(0), (2, steps, 20))
    move = jax.vmap(lambda air, push: 0.9985 * air + 0.0548 * push)
    air = jax.lax.scan(lambda a, p: (move(a, p),) * 2, pushes[:, 0], pushes.swapaxes(0, 1))[1]
    practice, sky = air.swapaxes(0, 1)
    ways = {
        "fresh directions": {"history_size": 1},
        "four rounds reused": {"history_size": 4, "reuse": zo.reuse.discounted(0.7)},
        "no repeats": {"history_size": 1, "directions": zo.directions.hadamard()},
    }
    figure = plt.figure(figsize=(7, 4), layout="constrained")
    panels = figure.subplot_mosaic([["off", "time"], ["on", "time"]], width_ratios=[1, 2.2])
    queries, rates, means = 2 * np.arange(steps), jnp.array([0.02, 0.05, 0.1]), {}
    for colour, (name, options) in zip(("C2", "C1", "C0"), ways.items(), strict=True):

        def at(rate, air, options=options):
            options = options | {"num_directions": 2, "radius": 0.1, "key": jax.random.key(1)}
            return run(zo.zoar(rate, **options), air)

        tried = jax.jit(jax.vmap(at, (0, None)))(rates, practice)[1].mean(1)
        mirrors, bright = jax.jit(at)(rates[jnp.argmax(tried)], sky)
        means[name] = float(bright[steps // 4 :].mean())
        panels["time"].plot(queries, bright, colour, label=f"{name}: {means[name]:.2f}")
    flat = 1 - jax.vmap(loss, (None, 0))(jnp.zeros(20), sky)
    panels["time"].plot(queries, flat, "k:", label="no mirror")
    panels["time"].set(xlabel="queries", title="brightness of the star", ylim=(0, 1))
    panels["time"].legend()
    for name, bends in ("off", sky), ("on", sky + mirrors):
        exposure = jax.vmap(picture)(bends[steps // 4 :]).mean(0)
        panels[name].imshow(exposure[40:88, 40:88] ** 0.5, cmap="gray", vmin=0, vmax=1)
        panels[name].set_title(f"mirror {name}")
        panels[name].set_axis_off()
    spent = 2 * steps * len(ways) * (1 + len(rates))  # for practice too
    return figure, {"queries": spent, "flat": float(flat[steps // 4 :].mean())} | means


if __name__ == "__main__":
    print(main()[1])
    plt.show()
