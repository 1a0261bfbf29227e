"""Attacks made of the library's parts: vertices of the box, and the slopes that they tell.

The margin is taken for linear between the box's corners: level + Σ slope_i · pixel_i. Its best
vertex follows from the signs of the slopes. What the attacks differ in is how they ask.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import j0

import zovh_jax as zo
from benchmarks.box_attack.game import Attack, Box
from benchmarks.box_attack.rivals import SIDE


@functools.cache
def waves(period: float, length: float, count: int) -> np.ndarray:
    """Images [PIXELS, count] whose random sums look like stripes in all directions.

    They are the first eigenvectors, times the square roots of their eigenvalues, of the covariance
    exp(−r²/(2 length²)) J₀(2π r/period) of two pixels at distance r.

    Args:
      period: of the stripes, in pixels; strokes of a digit are about half as wide.
      length: how far stripes go on, in pixels.
      count: how many images.
    """
    place = np.indices((SIDE, SIDE)).reshape(2, -1)
    distance = np.hypot(*(x[:, None] - x for x in place))
    covariance = np.exp(-(distance**2) / (2 * length**2)) * j0(2 * np.pi * distance / period)
    values, vectors = np.linalg.eigh(covariance)
    best = slice(-1, -count - 1, -1)
    return (vectors[:, best] * np.sqrt(np.maximum(values[best], 0))).astype(np.float32)


class Told(NamedTuple):
    """The state of `thompson`.

    Attributes:
      rows: the last images sent, as combinations of the features, [memory, features].
      values: their margins, [memory]; NaN where none was sent yet.
      turn: queries so far.
      key: for what is drawn.
    """

    rows: Any
    values: Any
    turn: Any
    key: Any


def thompson(
    period: float = 7.5,
    length: float = 3.0,
    count: int = 150,
    contrast: float = 2.0,
    doubt: float = 3.0,
    temperature: float = 0.15,
    ridge: float = 0.01,
    memory: int = 32,
) -> Attack:
    """Thompson sampling of the best vertex, with a Gaussian prior of the slopes.

    Each step draws slopes from their distribution given the margins so far, and sends the vertex
    that is best for them: no query goes to anything but a candidate. The draw is one call,
    `zo.estimators.interpolated_gradient` with a draw of the prior for its ``prior``: the slopes
    nearest to it that explain the values (Matheron's rule).

    A priori slopes are a random sum of `waves`, and of the image's own contrast, which is expected
    to lower the margin where it goes down. Slopes are in units of the values' spread, which makes
    the attack indifferent to the scale of the logits.

    Args:
      period, length, count: of `waves`.
      contrast: the mean of the contrast's slope, which lowers the margin when it is above 0.
      doubt: its standard deviation.
      temperature: what draws' deviation from the mean is multiplied by; 1 is Thompson's.
      ridge: variance of what is not linear, over that of what is.
      memory: how many values are looked at, the latest.
    """
    features = count + 1

    def features_of(box: Box) -> jax.Array:
        """[PIXELS, features], in units of half the box's width and of a unit of slope."""
        half = box.half.reshape(-1, 1)
        stripes = jnp.asarray(waves(period, length, count))
        stripes = stripes / jnp.linalg.norm(stripes * half)
        own = 2 * box.image.reshape(-1, 1) - 1
        return jnp.concatenate([stripes, doubt * own / jnp.sum(jnp.abs(own) * half)], 1)

    def start(box, key):
        nothing = jnp.full(memory, jnp.nan)
        return Told(jnp.zeros((memory, features)), nothing, jnp.zeros((), jnp.int32), key)

    def step(state, box, value_fn):
        key, now = jax.random.split(state.key)
        basis = features_of(box)
        spread = jnp.where(state.turn > 1, jnp.nanstd(state.values), 1.0)
        drawn = temperature * jax.random.normal(now, (features,))
        told = zo.Queries.from_values(
            state.values, directions=zo.directions.explicit(state.rows), radius=1.0
        )
        slopes = zo.estimators.interpolated_gradient(
            told, drawn, prior=spread * drawn.at[-1].add(contrast / doubt), ridge=ridge
        )
        image = box.vertex(-(basis @ slopes).reshape(SIDE, SIDE))
        value = value_fn(image)
        latest = state.turn % memory
        row = (image - box.centre).reshape(-1) @ basis
        return Told(
            state.rows.at[latest].set(row),
            state.values.at[latest].set(value),
            state.turn + 1,
            key,
        ), value[None]

    return Attack(start, step)


def hadamard(tiles: int, num_directions: int) -> Attack:
    """Vertices that are constant on tiles: Hadamard's signs, then the best of what they tell.

    A step asks at ``num_directions`` vertices, whose tiles are rows of a new Hadamard matrix, and
    then at the vertex against the sum of all steps' gradients.

    Args:
      tiles: a side.
      num_directions: of a step.
    """
    family = zo.directions.hadamard()
    tile_of = jnp.arange(SIDE) * tiles // SIDE

    def start(box, key):
        return jnp.zeros((tiles, tiles)), jnp.zeros((), jnp.int32), key

    def step(state, box, value_fn):
        total, turn, key = state

        def tiled(signs):
            return value_fn(box.vertex(signs[tile_of][:, tile_of]))

        zeros = jnp.zeros((tiles, tiles))
        now = jax.random.fold_in(key, turn)
        told = zo.query(
            tiled, zeros, now, num_directions=num_directions, radius=1.0, directions=family
        )
        total = total + zo.estimators.gradient(told, zeros)
        last = tiled(-total)
        return (total, turn + 1, key), jnp.append(told.values, last)

    return Attack(start, step, num_directions + 1)


__all__ = ["hadamard", "thompson", "waves"]
