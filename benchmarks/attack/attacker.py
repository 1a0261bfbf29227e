"""The attacker: zeroth-order optimisation of a perturbation until the network is fooled.

Threat model. The attacker sends images and gets logits. It wants the class (label + 1) mod 10 and
minimises the margin: the largest other logit minus the target's, negative once the network is
fooled. The image sent is clip(image + clip(δ, ±ε), 0, 1). The optimiser's parameter δ is free and
clipped inside the objective only: a method that projects δ on the box after each step forgets how
far past its edge the evidence had pushed a pixel, and fools fewer images.

Charging. A round starts with a check, f(δ), which is how success is detected: one query, for every
method alike. If the network is not fooled, the round goes on with the optimiser's queries, which
get the check's result as ``value``, so that a method that needs f(δ) does not pay for it twice. One
that has no use for f(δ) pays for the check as well. An attack stops when a check succeeds, or when
its budget may have no room for another round; a perturbed query that happens to fool the network
does not count for any method.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import methods
from benchmarks.common.victim import Victim

BATCH = 16  # attacks in flight at once
CHUNK = 10  # rounds between two looks at which attacks have ended

LogitsFn = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Setting(methods.Setting):
    """What all methods share; the defaults are the papers', but for ε, which is MNIST's usual one.

    Attributes:
      epsilon: how much a pixel may change, in (0, 1].
      budget: queries an image may cost.
    """

    radius: float = 0.5
    epsilon: float = 0.3
    budget: int = 4000

    def __post_init__(self):
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"epsilon must be in (0, 1], got {self.epsilon}: pixels are in [0, 1]")

    def queries_a_round(self, method: str) -> int:
        """The check, and the most that a step of the method spends."""
        return 1 + methods.METHODS[method].queries(self)


class Jobs(NamedTuple):
    """Attacks to run; arrays with one row an attack."""

    image: Any
    target: Any
    rate: Any
    key: Any


def attackable(victim: Victim, part: slice, count: int) -> np.ndarray:
    """The first ``count`` held-out digits of ``part`` that the network gets right."""
    right = np.arange(len(victim.labels))[part]
    right = right[(victim.predictions == victim.labels)[right]]
    if not 1 <= count <= len(right):
        raise ValueError(f"images must be from 1 to {len(right)} here, got {count}")
    return right[:count]


def make_jobs(victim: Victim, rows: np.ndarray, seeds: np.ndarray, rates: np.ndarray) -> Jobs:
    """One attack for each row, with the directions that its seed and image give."""
    fold = jax.vmap(lambda seed, row: jax.random.fold_in(jax.random.key(seed), row))
    return Jobs(
        jnp.asarray(victim.images[rows]),
        jnp.asarray((victim.labels[rows] + 1) % 10),
        jnp.asarray(rates, jnp.float32),
        fold(jnp.asarray(seeds), jnp.asarray(rows)),
    )


class Attack(NamedTuple):
    """An attack under way.

    Attributes:
      delta: δ, [28, 28].
      state: the optimiser's.
      checks: queries spent on checks.
      margin: what the last check returned; negative is success.
      checked: queries spent up to and including that check.
    """

    delta: Any
    state: Any
    checks: Any
    margin: Any
    checked: Any

    @property
    def queries(self) -> jax.Array:
        return self.checks + zo.num_queries(self.state)


class Outcome(NamedTuple):
    """Ended attacks, as numpy arrays with one row an attack.

    Attributes:
      delta: the last perturbation, [J, 28, 28].
      queries: spent, [J]; up to and including the check that succeeded.
      success: [J].
      margins: [J, R], one a check; an ended attack holds its last one.
      checked: [J, R], queries spent up to and including each check.
    """

    delta: np.ndarray
    queries: np.ndarray
    success: np.ndarray
    margins: np.ndarray
    checked: np.ndarray


def perturbed(image: jax.Array, delta: jax.Array, epsilon: float) -> jax.Array:
    """The image that is sent to the network."""
    return jnp.clip(image + jnp.clip(delta, -epsilon, epsilon), 0, 1)


def margin(logits: jax.Array, target: jax.Array) -> jax.Array:
    """The largest other logit minus the target's."""
    others = jnp.where(jnp.arange(logits.shape[-1]) == target, -jnp.inf, logits)
    return jnp.max(others, axis=-1) - logits[target]


def objective(
    logits: LogitsFn, image: jax.Array, target: jax.Array, epsilon: float
) -> Callable[[jax.Array], jax.Array]:
    """The function from δ to the margin."""
    return lambda delta: margin(logits(perturbed(image, delta, epsilon)), target)


@functools.cache
def compiled(method: str, logits: LogitsFn, setting: Setting):
    """Compiled ``start(jobs)`` and ``advance(attacks, jobs, rows)``: some attacks, a chunk on."""
    make = methods.METHODS[method].make

    def start(job):
        delta, zero = jnp.zeros_like(job.image), jnp.zeros((), jnp.int32)
        state = make(job.rate, job.key, setting).init(delta)
        return Attack(delta, state, zero, jnp.asarray(jnp.inf), zero)

    def step(attack, job):
        value_fn = objective(logits, job.image, job.target, setting.epsilon)
        value = value_fn(attack.delta)
        looked = attack._replace(checks=attack.checks + 1, margin=value, checked=attack.queries + 1)
        updates, state = make(job.rate, job.key, setting).update(
            None, attack.state, attack.delta, value_fn=value_fn, value=value
        )
        moved = looked._replace(delta=optax.apply_updates(attack.delta, updates), state=state)
        over = ended(attack, setting.budget - setting.queries_a_round(method))
        return where(over, attack, where(value < 0, looked, moved))

    def scanned(attack, job):
        attack = jax.vmap(step)(attack, job)
        return attack, (attack.margin, attack.checked)

    @jax.jit
    def advance(attacks, jobs, rows):
        running, chosen = jax.tree.map(lambda x: x[rows], (attacks, jobs))
        running, seen = jax.lax.scan(
            lambda attack, _: scanned(attack, chosen), running, length=CHUNK
        )
        attacks = jax.tree.map(lambda x, new: x.at[rows].set(new), attacks, running)
        return attacks, jax.tree.map(jnp.transpose, seen)

    return jax.jit(jax.vmap(start)), advance


def ended(attack: Attack, enough: int) -> jax.Array:
    """Whether it succeeded, or has spent more queries than leave room for another round."""
    return (attack.margin < 0) | (attack.queries > enough)


def where(condition: jax.Array, attack: Attack, other: Attack) -> Attack:
    """One attack or the other."""
    return jax.tree.map(functools.partial(jnp.where, condition), attack, other)


def run_attacks(method: str, logits: LogitsFn, jobs: Jobs, setting: Setting) -> Outcome:
    """Runs every job to its end, `BATCH` at a time, with a progress bar."""
    a_round = setting.queries_a_round(method)
    if setting.budget < a_round:
        raise ValueError(
            f"budget must pay for a round of {method}, {a_round} queries, got {setting.budget}: "
            "raise it"
        )
    start, advance = compiled(method, logits, setting)
    attacks, count = start(jobs), len(jobs.target)
    margins: list[list] = [[] for _ in range(count)]
    checked: list[list] = [[] for _ in range(count)]
    done = np.zeros(count, bool)
    with tqdm(total=count, desc=f"{method:13}", unit="attack") as bar:
        while not done.all():
            # Fewer left than a batch: some rows come twice, with the same result.
            rows = np.resize(np.flatnonzero(~done)[:BATCH], min(BATCH, count))
            attacks, seen = advance(attacks, jobs, rows)
            for kept, latest in zip((margins, checked), seen, strict=True):
                for row, values in dict(zip(rows, np.asarray(latest), strict=True)).items():
                    kept[row].extend(values)
            done = np.asarray(ended(attacks, setting.budget - a_round))
            bar.set_postfix(queries=f"{int(attacks.queries.sum()):,}", refresh=False)
            bar.update(int(done.sum()) - bar.n)
    success = np.asarray(attacks.margin) < 0
    queries = np.asarray(attacks.queries)
    return Outcome(np.asarray(attacks.delta), queries, success, level(margins), level(checked))


def level(rows: list[list]) -> np.ndarray:
    """Rows of unequal length as one array; the shorter ones hold their last value."""
    longest = max(map(len, rows))
    return np.asarray([row + row[-1:] * (longest - len(row)) for row in rows])
