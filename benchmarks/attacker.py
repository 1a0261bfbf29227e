"""The attacker: zeroth-order optimisation of a perturbation until the network is fooled.

Threat model. The attacker sends images and gets logits. It wants the class (label + 1) mod 10 and
minimises the margin: the largest other logit minus the target's, negative once the network is
fooled. The image sent is clip(image + clip(δ, ±ε), 0, 1). The optimiser's parameter δ is free and
clipped inside the objective only: a method that projects δ on the box after each step forgets how
far past its edge the evidence had pushed a pixel, and fools fewer images.

Charging. A round starts with a check, f(δ), which is how success is detected: one query, for every
method alike. If the network is not fooled, the round goes on with the optimiser's K queries, which
get the check's result as ``value``, so that a baseline that needs f(δ) does not pay for it twice.
A method that has no use for f(δ) pays for the check as well: all methods spend K + 1 a round.
An attack stops when a check succeeds, or when its budget has no room for another round; a perturbed
query that happens to fool the network does not count for any method.
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

METHODS = {
    "zo_sgd": "ZO-SGD",
    "zoar": "ZoAR",
    "zovh": "ZoVH",
    "zovh_reuse": "ZoVH + reuse",
}
BATCH = 16  # attacks in flight at once
CHUNK = 10  # rounds between two looks at which attacks have ended

LogitsFn = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all methods share; the defaults are the papers'.

    Attributes:
      epsilon: ε, the largest change of a pixel.
      num_directions, radius, damping: K, μ, and λ of ZoVH.
      history_size: N, of the methods with reuse.
      budget: queries an image may cost.
    """

    epsilon: float = 0.3
    num_directions: int = 3
    radius: float = 0.5
    damping: float = 0.1
    history_size: int = 4
    budget: int = 4000

    def __post_init__(self):
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"epsilon must be in (0, 1], got {self.epsilon}: pixels are in [0, 1]")
        if self.budget < self.queries_a_round:
            raise ValueError(
                f"budget must pay for a round of {self.queries_a_round} queries or more, "
                f"got {self.budget}: raise it"
            )

    @property
    def queries_a_round(self) -> int:
        """The check and K."""
        return self.num_directions + 1

    @property
    def rounds(self) -> int:
        """Rounds that the budget pays for."""
        return self.budget // self.queries_a_round


class Jobs(NamedTuple):
    """Attacks to run; arrays with one row an attack."""

    image: Any
    target: Any
    rate: Any
    key: Any


class Attack(NamedTuple):
    """An attack under way.

    Attributes:
      delta: δ, [28, 28].
      state: the optimiser's.
      checks: queries spent on checks.
      margin: what the last check returned; negative is success.
    """

    delta: Any
    state: Any
    checks: Any
    margin: Any

    @property
    def queries(self) -> jax.Array:
        return self.checks + zo.num_queries(self.state)


class Outcome(NamedTuple):
    """Ended attacks, as numpy arrays with one row an attack.

    Attributes:
      delta: the last perturbation, [J, 28, 28].
      queries: spent, [J]; up to and including the check that succeeded.
      success: [J].
      margins: [J, rounds], one a check; an ended attack holds its last one.
    """

    delta: np.ndarray
    queries: np.ndarray
    success: np.ndarray
    margins: np.ndarray


def optimizer(method: str, rate: Any, key: jax.Array, setting: Setting):
    """The method's optimiser from the library."""
    common = {"num_directions": setting.num_directions, "radius": setting.radius, "key": key}
    reuse = {"history_size": setting.history_size, "store_directions": True}
    match method:
        case "zo_sgd":
            return zo.zo_sgd(rate, **common)
        case "zoar":
            return zo.zoar(rate, **common, **reuse)
        case "zoar_no_reuse":
            return zo.zoar(rate, **common, history_size=1)
        case "zovh":
            return zo.zovh(rate, **common, damping=setting.damping)
        case "zovh_reuse":
            return zo.zovh(rate, **common, **reuse, damping=setting.damping)
    raise ValueError(f"method must be one of {', '.join(METHODS)} or zoar_no_reuse, got {method!r}")


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
    """δ → margin."""
    return lambda delta: margin(logits(perturbed(image, delta, epsilon)), target)


@functools.cache
def compiled(method: str, logits: LogitsFn, setting: Setting):
    """``start(jobs)`` and ``advance(attacks, jobs, rows)``, which runs some of them a chunk on."""

    def start(job):
        delta = jnp.zeros_like(job.image)
        state = optimizer(method, job.rate, job.key, setting).init(delta)
        return Attack(delta, state, jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf))

    def step(attack, job):
        value_fn = objective(logits, job.image, job.target, setting.epsilon)
        value = value_fn(attack.delta)
        checked = attack._replace(checks=attack.checks + 1, margin=value)
        updates, state = optimizer(method, job.rate, job.key, setting).update(
            None, attack.state, attack.delta, value_fn=value_fn, value=value
        )
        moved = checked._replace(delta=optax.apply_updates(attack.delta, updates), state=state)
        return where(ended(attack, setting), attack, where(value < 0, checked, moved))

    def scanned(attack, job):
        attack = jax.vmap(step)(attack, job)
        return attack, attack.margin

    @jax.jit
    def advance(attacks, jobs, rows):
        running, chosen = jax.tree.map(lambda x: x[rows], (attacks, jobs))
        running, margins = jax.lax.scan(
            lambda attack, _: scanned(attack, chosen), running, length=CHUNK
        )
        attacks = jax.tree.map(lambda x, new: x.at[rows].set(new), attacks, running)
        return attacks, margins.T

    return jax.jit(jax.vmap(start)), advance


def ended(attack: Attack, setting: Setting) -> jax.Array:
    """Whether it succeeded, or cannot pay for another round."""
    return (attack.margin < 0) | (attack.queries + setting.queries_a_round > setting.budget)


def where(condition: jax.Array, attack: Attack, other: Attack) -> Attack:
    return jax.tree.map(functools.partial(jnp.where, condition), attack, other)


def run_attacks(method: str, logits: LogitsFn, jobs: Jobs, setting: Setting) -> Outcome:
    """Runs every job to its end, `BATCH` at a time, with a progress bar."""
    start, advance = compiled(method, logits, setting)
    attacks, count = start(jobs), len(jobs.target)
    margins = np.full((count, setting.rounds + CHUNK), np.nan, np.float32)
    rounds = np.zeros(count, int)
    done = np.zeros(count, bool)
    with tqdm(total=count, desc=f"{method:13}", unit="attack") as bar:
        while not done.all():
            # Fewer left than a batch: some rows come twice, with the same result.
            rows = np.resize(np.flatnonzero(~done)[:BATCH], min(BATCH, count))
            attacks, latest = advance(attacks, jobs, rows)
            for row, values in zip(rows, np.asarray(latest), strict=True):
                margins[row, rounds[row] :] = values[-1]
                margins[row, rounds[row] : rounds[row] + CHUNK] = values
            rounds[np.unique(rows)] += CHUNK
            done = np.asarray(ended(attacks, setting))
            bar.set_postfix(queries=f"{int(attacks.queries.sum()):,}", refresh=False)
            bar.update(int(done.sum()) - bar.n)
    success = np.asarray(attacks.margin) < 0
    queries = np.asarray(attacks.queries)
    return Outcome(np.asarray(attacks.delta), queries, success, margins[:, : setting.rounds])
