"""The game: images sent from an ε-box to a classifier until it errs, every one of them charged.

Threat model. The attacker knows the image and its label, sends images and gets logits. An image
that is sent lies in the box max(x − ε, 0) ≤ image ≤ min(x + ε, 1), to whose nearest point it is
brought if it does not. The value is the margin: the label's logit minus the largest other one,
negative once the network errs, whatever it takes the image for.

Charging. Every image sent is a query, and is looked at: the first one with a negative margin ends
the attack, and counts as well. So nobody pays for a check, or has to check: a probe that fools is
as good as any image, and all attacks are counted alike.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks.attack.attacker import LogitsFn, margin
from benchmarks.common.victim import Victim

BATCH = 64  # attacks in flight at once
CHUNK = 8  # queries, at least, between two looks at which attacks have ended

ValueFn = Callable[[jax.Array], jax.Array]


class Box(NamedTuple):
    """What may be sent instead of an image x.

    Attributes:
      image: x.
      lower, upper: the box's faces.
    """

    image: Any
    lower: Any
    upper: Any

    @classmethod
    def around(cls, image: jax.Array, epsilon: float) -> "Box":
        return cls(image, jnp.maximum(image - epsilon, 0), jnp.minimum(image + epsilon, 1))

    @property
    def centre(self) -> jax.Array:
        return (self.lower + self.upper) / 2

    @property
    def half(self) -> jax.Array:
        """Half the box's width, zero to ε."""
        return (self.upper - self.lower) / 2

    def vertex(self, signs: jax.Array) -> jax.Array:
        """The upper face where a sign is positive, otherwise the lower one."""
        return jnp.where(signs > 0, self.upper, self.lower)

    def nearest(self, image: jax.Array) -> jax.Array:
        return jnp.clip(image, self.lower, self.upper)


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack, as pure functions.

    Attributes:
      start: state from (box, key).
      step: (state, box, value_fn) → (state, values); ``values``, [n], are those of all images that
        the step sent, in order.
      queries: n.
    """

    start: Callable[[Box, jax.Array], Any]
    step: Callable[[Any, Box, ValueFn], tuple[Any, jax.Array]]
    queries: int = 1


class Outcome(NamedTuple):
    """Ended attacks, as numpy arrays with one row an attack.

    Attributes:
      queries: spent, the one that fooled included; the budget if none did.
      success: whether one did.
    """

    queries: np.ndarray
    success: np.ndarray


class Flight(NamedTuple):
    """An attack under way: the attack's state, and what the game notes."""

    state: Any
    queries: Any
    success: Any


def value_of(logits: LogitsFn, box: Box, label: jax.Array) -> ValueFn:
    """From an image to the margin of what is sent for it."""
    return lambda image: -margin(logits(box.nearest(image)), label)


@functools.cache
def compiled(attack: Attack, logits: LogitsFn, epsilon: float, budget: int):
    """Compiled ``start`` of all attacks, and ``advance``, which takes some of them on."""

    def start(image, key):
        state = attack.start(Box.around(image, epsilon), key)
        return Flight(state, jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def step(flight, image, label):
        box = Box.around(image, epsilon)
        state, values = attack.step(flight.state, box, value_of(logits, box, label))
        left = budget - flight.queries
        first = jnp.argmax(values < 0)
        success = (values[first] < 0) & (first < left)
        spent = jnp.where(success, first + 1, jnp.minimum(values.size, left))
        after = Flight(state, flight.queries + spent.astype(jnp.int32), success)
        over = flight.success | (left <= 0)
        return jax.tree.map(lambda old, new: jnp.where(over, old, new), flight, after)

    def advance(flights, images, labels, rows):
        some, images, labels = jax.tree.map(lambda x: x[rows], (flights, images, labels))
        steps = -(-CHUNK // attack.queries)
        some = jax.lax.fori_loop(
            0, steps, lambda _, some: jax.vmap(step)(some, images, labels), some
        )
        return jax.tree.map(lambda x, new: x.at[rows].set(new), flights, some)

    return jax.jit(jax.vmap(start)), jax.jit(advance, donate_argnums=0)


def keys_of(seed: int, rows: np.ndarray) -> jax.Array:
    """A key for each image, alike for all attacks."""
    return jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(jnp.asarray(rows))


def play(
    name: str,
    attack: Attack,
    victim: Victim,
    epsilon: float,
    budget: int,
    rows: np.ndarray,
    keys: jax.Array,
) -> Outcome:
    """Attacks some held-out digits until they are fooled or the budget is spent, `BATCH` at a time.

    Args:
      name: for the progress bar.
      attack, victim: who plays.
      epsilon: how much a pixel may change.
      budget: queries an image may cost.
      rows: the digits' numbers among the held-out ones.
      keys: one for each.
    """
    start, advance = compiled(attack, victim.logits, epsilon, budget)
    images, labels = jnp.asarray(victim.images[rows]), jnp.asarray(victim.labels[rows])
    flights, count = start(images, keys), len(rows)
    done = np.zeros(count, bool)
    with tqdm(total=count, desc=f"{name:13}", unit="attack") as bar:
        while not done.all():
            # Fewer left than a batch: some rows come twice, with the same result.
            some = np.resize(np.flatnonzero(~done)[:BATCH], min(BATCH, count))
            flights = advance(flights, images, labels, some)
            done = np.asarray(flights.success | (flights.queries >= budget))
            bar.set_postfix(queries=f"{int(flights.queries.sum()):,}", refresh=False)
            bar.update(int(done.sum()) - bar.n)
    return Outcome(np.asarray(flights.queries), np.asarray(flights.success))
