"""Published black-box attacks, written from their papers for 28×28 images in a box.

All minimise the margin, and send what `benchmarks.box_attack.game` counts. The papers of SimBA, NES
and Bandits let an attack leave the box before it is clipped, and ask for checks between their
probes; here each image is brought to the box first, and every probe is a check.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.box_attack.game import Attack, Box

SIDE = 28
PIXELS = SIDE * SIDE


class Best(NamedTuple):
    """The state of an attack that keeps the best image so far.

    Attributes:
      image, value: the best, and its margin.
      turn: queries so far.
      key: for all that is random.
      order: the coordinates' order, where there is one.
    """

    image: Any
    value: Any
    turn: Any
    key: Any
    order: Any = None


def better(state: Best, image: jax.Array, value: jax.Array) -> Best:
    """The state after a query: the lower margin wins, the newer one of equals."""
    won = value <= state.value
    return state._replace(
        image=jnp.where(won, image, state.image),
        value=jnp.where(won, value, state.value),
        turn=state.turn + 1,
    )


def first_of(box: Box, key: jax.Array, order: Any = None) -> Best:
    """The state before the first query."""
    return Best(box.image, jnp.asarray(jnp.inf), jnp.zeros((), jnp.int32), key, order)


def square(share: float, queries: int) -> Attack:
    """Square Attack (Andriushchenko et al., arXiv 1912.00049, algorithms 1 and 2).

    Starts with stripes one pixel wide, each at the box's upper or lower face. Then a random square
    goes to one of the faces, and stays there if the margin falls. Squares cover ``share`` of the
    image, halved at 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 queries of 10 000.

    Args:
      share: p; the paper's is 0.8 on MNIST, and 0.3 for networks without adversarial training.
      queries: the number that its schedule is stretched over.
    """
    halvings = np.asarray([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]) * queries / 10_000
    place = jnp.arange(SIDE)

    def step(state, box, value_fn):
        key, *keys = jax.random.split(state.key, 4)
        halved = jnp.sum(state.turn - 1 > halvings)
        side = jnp.round(jnp.sqrt(share / 2.0**halved * PIXELS)).astype(jnp.int32)
        side = jnp.clip(side, 1, SIDE - 1)
        corner = jax.random.randint(keys[0], (2,), 0, SIDE + 1 - side)
        rows, columns = ((place >= c) & (place < c + side) for c in corner)
        window = rows[:, None] & columns
        signs = jnp.where(jax.random.bernoulli(keys[1]), 1.0, -1.0) * jnp.array([1, -1])
        # The other face, where all of the square is at this one already.
        one, other = (jnp.where(window, box.vertex(sign), state.image) for sign in signs)
        moved = jnp.where(jnp.any(one != state.image), one, other)
        stripes = box.vertex(jnp.where(jax.random.bernoulli(keys[2], shape=(SIDE,)), 1.0, -1.0))
        image = jnp.where(state.turn == 0, stripes, moved)
        value = value_fn(image)
        return better(state, image, value)._replace(key=key), value[None]

    return Attack(first_of, step)


def sign_hunter() -> Attack:
    """SignHunter (Al-Dujaili and O'Reilly, arXiv 1902.06894, algorithms 1 and 2).

    Starts with all pixels up, then flips the whole image, its halves, its quarters and so on, row
    by row, and keeps a flip unless the margin rises. It has no settings.
    """
    flips = [(0, 0)]  # the first query flips nothing
    for level in range(int(np.ceil(np.log2(PIXELS))) + 1):
        length = -(-PIXELS // 2**level)
        flips += [(i, min(i + length, PIXELS)) for i in range(0, PIXELS, length)]
    starts, ends = jnp.asarray(flips).T
    place = jnp.arange(PIXELS).reshape(SIDE, SIDE)

    def start(box, key):
        return first_of(box, key)._replace(image=jnp.ones((SIDE, SIDE)))  # signs, not pixels

    def step(state, box, value_fn):
        # After the last pixel it begins with the whole again.
        turn = jnp.where(state.turn < len(flips), state.turn, 1 + state.turn % (len(flips) - 1))
        flipped = (place >= starts[turn]) & (place < ends[turn])
        signs = jnp.where(flipped, -state.image, state.image)
        value = value_fn(box.vertex(signs))
        return better(state, signs, value), value[None]

    return Attack(start, step)


def simba(length: float, basis: Literal["pixels", "cosines"]) -> Attack:
    """SimBA (Guo et al., arXiv 1905.07121, algorithm 1).

    Goes through an orthonormal basis, pixels in random order or cosines from the lowest frequency
    on, tries a step along each and then its opposite, and keeps what lowers the margin. The first
    query is the image itself, whose margin it needs.

    Args:
      length: of a step; the paper's is 0.2.
      basis: "pixels" or "cosines" (SimBA-DCT).
    """
    table = np.cos(np.pi / SIDE * np.outer(np.arange(SIDE), np.arange(SIDE) + 0.5))
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    cosines, waves = basis == "cosines", jnp.asarray(table, jnp.float32)
    low_first = np.argsort(np.add.outer(np.arange(SIDE), np.arange(SIDE)).ravel(), kind="stable")

    def start(box, key):
        order = jnp.asarray(low_first) if cosines else jax.random.permutation(key, PIXELS)
        return first_of(box, key, (order, jnp.zeros((), jnp.int32), jnp.ones(())))

    def step(state, box, value_fn):
        order, index, sign = state.order
        row, column = jnp.divmod(order[index % PIXELS], SIDE)
        if cosines:
            along = waves[row][:, None] * waves[column]
        else:
            along = jnp.zeros((SIDE, SIDE)).at[row, column].set(1.0)
        moved = box.nearest(state.image + sign * length * along)
        image = jnp.where(state.turn == 0, box.image, moved)
        value = value_fn(image)
        won = value < state.value
        # On to the next one after a success, or when both signs have failed.
        go_on = (state.turn > 0) & (won | (sign < 0))
        order = order, index + go_on, jnp.where((state.turn == 0) | go_on, 1.0, -1.0)
        return better(state, image, value)._replace(order=order), value[None]

    return Attack(start, step)


def nes(rate: float, probe: float, pairs: int) -> Attack:
    """NES (Ilyas et al., arXiv 1804.08598, algorithm 1), with signs of the gradient as steps.

    Args:
      rate: of a step, in pixels' units.
      probe: the length of a probe: Gaussian directions over √d, times this.
      pairs: of probes, x ± probe, in a step.
    """

    def step(state, box, value_fn):
        key, now = jax.random.split(state.key)
        noise = jax.random.normal(now, (pairs, SIDE, SIDE)) / SIDE
        probes = jnp.stack([state.image + probe * noise, state.image - probe * noise], 1)
        values = jax.vmap(jax.vmap(value_fn))(probes)
        slope = jnp.einsum("k,kij->ij", values[:, 0] - values[:, 1], noise)
        image = box.nearest(state.image - rate * jnp.sign(slope))
        return state._replace(image=image, key=key), values.ravel()

    return Attack(first_of, step, 2 * pairs)


def bandits(rate: float, prior_rate: float, exploration: float, probe: float, tiles: int) -> Attack:
    """Bandits with time and data priors (Ilyas et al., arXiv 1807.07978, algorithms 2 and 3).

    Args:
      rate: of an image's step, along signs, in pixels' units.
      prior_rate: of the exponentiated-gradient steps of the prior.
      exploration: how far the two probes' directions are from the prior.
      probe: the length of a probe.
      tiles: the prior has so many tiles a side, each over some pixels (28: no data prior).
    """
    nearest = jnp.arange(SIDE) * tiles // SIDE

    def start(box, key):
        return first_of(box, key, jnp.zeros((tiles, tiles)))

    def step(state, box, value_fn):
        key, now = jax.random.split(state.key)
        noise = jax.random.normal(now, (tiles, tiles)) / tiles

        def probed(sign):
            along = (state.order + sign * exploration * noise)[nearest][:, nearest]
            return value_fn(state.image + probe * along / jnp.linalg.norm(along))

        values = jax.vmap(probed)(jnp.array([1.0, -1.0]))
        # The prior climbs: it points to where the margin falls.
        slope = -(values[0] - values[1]) / (probe * exploration) * noise
        up = (1 + state.order) * jnp.exp(jnp.clip(prior_rate * slope, -30, 30))
        down = (1 - state.order) * jnp.exp(-jnp.clip(prior_rate * slope, -30, 30))
        prior = (up - down) / (up + down)
        image = box.nearest(state.image + rate * jnp.sign(prior[nearest][:, nearest]))
        return state._replace(image=image, order=prior, key=key), values

    return Attack(start, step, 2)
