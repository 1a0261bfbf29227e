"""Quasi-Newton steps without a learning rate: whole gradients, in a metric that they learn.

Queries per step: K + 1 at most, f(θ) included. A walk begins as `diagonal_newton` does, until a
sweep teaches little. From then on θ rests for an epoch, D ≥ d directions that make a whole
gradient, and then takes one step of the model of `secants`, in units in which the diagonal is 1.
The module `epochs` has the rules.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._types import PyTree
from zovh_jax.baselines import origin
from zovh_jax.directions import hadamard, masked
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.transforms._rounds import Rounds, ZerothOrderState, transformation
from zovh_jax.transforms.newton._walk import choose
from zovh_jax.transforms.newton.diagonal_newton import DiagonalNewtonState, diagonal_newton
from zovh_jax.transforms.newton.epochs import Epoch, EpochRules
from zovh_jax.transforms.newton.noise import looked_for
from zovh_jax.transforms.newton.secants import Secants
from zovh_jax.transforms.newton.sweep import DiagonalSweeps

SWEEPS = 4
"""The most sweeps of the start."""


class QuasiNewtonState(NamedTuple):
    """State of `quasi_newton`.

    Attributes:
      start: the state of the `diagonal_newton` that it begins as, with the counts.
      secants: the model of the Hessian.
      epoch: what the present epoch has seen.
    """

    start: DiagonalNewtonState
    secants: Secants
    epoch: Epoch

    @property
    def counts(self) -> ZerothOrderState:
        """The counts and the key."""
        return self.start.counts

    @property
    def compares_rounds(self) -> bool:
        """Values of one round are compared with those of another one."""
        return True


def quasi_newton(
    num_directions: int,
    radius: float,
    *,
    key: jax.Array,
    num_pairs: int = 10,
    mask: PyTree = True,
    noise: Any = "auto",
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS from values, in units in which a learnt diagonal is 1; nothing to tune.

    It begins as `diagonal_newton`: 2d plain directions, and then sweeps of 4d queries, one after
    the other as long as they teach much, four at most. From then on it gathers a whole gradient
    while θ rests, ⌈D/K⌉ rounds of differences (D ≥ d, at most 1.07 d above d = 1000), and takes one
    step: −(γP)⁻¹∇f, where P follows from the last ``num_pairs`` steps and the changes of the
    gradient along them (the module `secants` has the formula). Directions are isotropic in the
    metric of P, and look about a thousandth as far as the last step was long: near, but above
    rounding. A step without a fall (Armijo's rule) is shortened at once; the round that showed it
    is lost.

    For smooth objectives with exact values, some tens to some hundred parameters, and budgets of 20
    d queries or more. It wins in valleys that bend, where the others without a learning rate crawl:
    in 20 and 40 dimensions it needs fewer evaluations than L-BFGS on finite differences on the
    rotated Rosenbrock function and the bent cigar, and up to three times as many on the plain
    Rosenbrock function, where it may end in the second minimum (the benchmark ``blackbox``). It
    loses where d queries for a step are too many, on functions with many minima, to `model_newton`
    up to some tens of parameters, and to `diagonal_newton` where the axes' curvature keeps changing
    on the way. A rotated quadratic of condition 10⁶ is out of reach of few pairs. Where f(θ), which
    each round of a gradient asks again, is not the same, values are noisy, and it goes on as
    `diagonal_newton`; where they are noisy from the start, that is far better.

    The updates must be applied as they are: the method compares what they did with what it expects.

    Args:
      num_directions: K, a multiple of 4, the most points beside f(θ) that a round asks.
      radius: μ of the first round; see `scalar_newton`.
      key: ``jax.random.key(seed)``.
      num_pairs: m, pairs that the model remembers. More of them help a little where curvature has
        many scales, and much from d on, where nothing need be forgotten.
      mask: a tree of bools like params, or a prefix of it: False leaves are frozen.
      noise: "auto", a number to begin with, or 0 for exact values; see `scalar_newton`.
      evaluate: as for `zo.zo_gradient`.

    Returns:
      An optimiser: no learning rate, and the updates are steps downhill, zero while a gradient is
      gathered. Queries a step: K + 1; ⌈D/⌈D/K⌉⌉ + 1 in epochs, which are no more; one less where
      ``value=f(params)`` is passed; two more in some steps once noise was found. State:
      2 num_pairs + 5 copies of the parameters, one more unless noise=0, and (2 num_pairs)² numbers.
      Memory for a step: that of a round, and as much as the state in the steps that end an epoch.
      Time beyond the queries': O(num_pairs·K·d) a step. The objective's program is there twice, for
      the start and for epochs; under ``jax.vmap`` over runs both are evaluated.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them, and as `zo.zo_gradient`.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f = lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
      >>> optimizer, x = zo.quasi_newton(16, 0.1, key=jax.random.key(0)), jnp.zeros(16)
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda state, x: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(200):
      ...     updates, state = step(state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(f(x) < 1e-3)  # from 15
      True
    """
    _checks.positive_int("num_pairs", num_pairs)
    directions = masked(hadamard(), mask)
    start = diagonal_newton(
        num_directions, radius, key=key, directions=directions, noise=noise, evaluate=evaluate
    )
    rounds = Rounds(
        num_directions=num_directions,
        radius=radius,
        key=key,
        directions=directions,
        baseline=origin(),
        evaluate=evaluate,
    )

    def init(params):
        layout, first = rounds.layout(params), start.init(params)
        return QuasiNewtonState(
            first, Secants.init(num_pairs, layout), EpochRules(layout, rounds).init()
        )

    def step(updates, state, params, value_fn, value):
        del updates
        layout = rounds.layout(params)
        sweeps = DiagonalSweeps(layout, num_directions)
        first = state.start
        traced_once = jax.jit(value_fn)
        ready, first = _ready(first, sweeps)

        def begin():
            updates, after = start.update(None, first, params, value_fn=traced_once, value=value)
            return updates, state._replace(start=after)

        def go_on():
            rules, auto = EpochRules(layout, rounds), looked_for(noise)
            updates, after = rules.round(tuple(state), params, traced_once, value, auto)
            return updates, QuasiNewtonState(*after)

        return choose(ready, [begin, go_on], like=first.trust.radius)

    return transformation("quasi_newton", init, step)


def _ready(
    start: DiagonalNewtonState, sweeps: DiagonalSweeps
) -> tuple[jax.Array, DiagonalNewtonState]:
    """Whether the start is over; and its state, in which sweeps that teach follow each other."""
    sweep, trust = start.sweep, start.trust
    num_sweeps = sweep.num_rounds // sweeps.length
    some = (num_sweeps > 0) & ~trust.noise.found
    enough = (sweep.num_quiet > 0) | (num_sweeps >= SWEEPS)
    # A step that was not judged yet may have to be taken back: after one more sweep there is none.
    enough &= trust.squared_length == 0
    rest = jnp.where(some & ~enough, 0, sweep.rest)
    start = start._replace(sweep=sweep._replace(rest=rest))
    return some & enough & ~sweeps.inside(sweep) & (trust.weight > 0), start


__all__ = ["QuasiNewtonState", "quasi_newton"]
