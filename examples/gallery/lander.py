"""Teach a lander whose engines are on or off.

A small network steers by three switches: left, right and up, so that the derivative of a flight is
zero almost everywhere. From the values of whole flights it learns to come down softly on the pad,
from places that it was not trained on too.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import zovh_jax as zo

GRAVITY, JETS, STEP = jnp.array([[0.0], [1.6]]), jnp.array([[1.0], [3.2]]), 0.1  # metres, seconds


def fly(network, place):
    """The ends of flights from places [2, n], and their paths with what was switched on."""

    def step(state, _):
        place, speed = state
        seen = jnp.concatenate([place / 10, speed / 5, jnp.ones_like(place[:1])])
        across, up = network["out"] @ jnp.tanh(network["in"] @ seen)
        switches = jnp.stack([jnp.round(jnp.clip(across, -1, 1)), jnp.where(up > 0, 1.0, 0.0)])
        flies = place[1] > 0
        speed = speed + STEP * flies * (JETS * switches - GRAVITY)
        return (place + STEP * flies * speed, speed), (place, flies * switches)

    return jax.lax.scan(step, (place, jnp.zeros_like(place)), length=120)


def main(steps=300):
    """Draws flights from new places before and after the lessons."""
    random = np.random.default_rng(0)
    seen, new = jnp.asarray(random.uniform([[-10], [8]], [[10], [14]], (2, 2, 12)))

    def cost(network, starts=seen):  # of ends off the pad, and of speed there
        (end, speed), _ = fly(network, starts)
        return jnp.log(jnp.mean(jnp.sum(end**2 / 10 + speed**2, 0)))

    shapes = {"in": (8, 5), "out": (2, 8)}
    start = network = {k: jnp.asarray(random.normal(size=shape)) for k, shape in shapes.items()}
    rate = optax.cosine_decay_schedule(0.02, steps)
    optimizer = zo.fzoo(rate, num_directions=16, radius=0.1, key=jax.random.key(0))

    @jax.jit
    def lesson(network, state):
        updates, state = optimizer.update(None, state, network, value_fn=cost)
        return optax.apply_updates(network, updates), state

    state = optimizer.init(network)
    for _ in range(steps):
        network, state = lesson(network, state)

    figure, panels = plt.subplots(1, 2, figsize=(7, 4), sharey=True, layout="constrained")
    fly_jitted = jax.jit(fly)
    for ax, each, title in zip(panels, (start, network), ("before", "after"), strict=True):
        (end, speed), (paths, switches) = fly_jitted(each, new)
        burns = jnp.where(switches[:, 1:] > 0, paths, jnp.nan)
        ax.plot(paths[:, 0], paths[:, 1], "C2", linewidth=1)
        ax.plot(burns[:, 0], burns[:, 1], "C1", linewidth=2)
        ax.plot(*new, "k.")
        ax.plot([-1, 1], [0, 0], "C0", linewidth=6)
        ax.set(title=title, xlabel="metres", xlim=(-16, 16), ylim=(-1, 15))
    panels[0].set_ylabel("metres")
    panels[0].plot([], [], "C1", linewidth=2, label="up is on")
    panels[0].legend(loc="upper left")
    miss, hit = np.abs(end[0]), np.linalg.norm(speed, axis=0)
    return figure, {"queries": int(zo.num_queries(state)), "miss": miss, "speed": hit}


if __name__ == "__main__":
    print(main()[1])
    plt.show()
