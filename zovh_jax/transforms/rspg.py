"""RSPG: proximal steps along gradients estimated from K directions; the answer is a random iterate.

Source: Ghadimi, Lan, Zhang, Math. Program. 2016, arXiv 1308.6594 (RSPG and its gradient-free form);
without a prox it is RSGF of Ghadimi and Lan, SIAM J. Optim. 2013, arXiv 1309.5549. Estimator:
(E13). Queries per step: K + 1 (forward, the centre included), 2K (central), 2K + 1 (three_point).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._mesh import placed_with
from zovh_jax._tree import cast_like, scalar_dtype, scale, widen
from zovh_jax._types import Number, PyTree, Schedule
from zovh_jax._words import unpack_all
from zovh_jax.baselines import Baseline, origin
from zovh_jax.directions import Directions, gaussian
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._rounds import scheduled
from zovh_jax.transforms._state import next_round
from zovh_jax.transforms.zo_gradient import zo_gradient

Prox = Callable[[PyTree, jax.Array], PyTree]
"""``prox(tree, step_size)``: argmin_y h(y) + ‖y − tree‖²/(2 step_size)."""


class RandomIterateState(NamedTuple):
    """State of the proximal step.

    Attributes:
      count: steps taken; it stays at 2³¹ − 1.
      key: draw t uses ``fold_in`` of this key and t; after 2³¹ draws the key changes.
      score: the score of the iterate that is kept.
      random_iterate: x_R, with R a random one of the steps so far; zeros before the first.
      draw: draws made with this key.
    """

    count: jax.Array  # type: ignore[assignment]  # shadows tuple.count, as in optax
    key: jax.Array
    score: jax.Array
    random_iterate: PyTree
    draw: jax.Array


def rspg(
    learning_rate: Schedule,
    *,
    num_directions: int,
    radius: Schedule,
    key: jax.Array,
    prox: Prox | None = None,
    smoothness: Number = 0.0,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    baseline: Baseline = origin(),
    evaluate: Evaluator = vmapped(),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """RSPG: x ← prox_h(x − γ ĝ, γ), for f + h with f as ``value_fn`` and h given by its prox.

    The theory is about a random iterate, not the last one: x_R with P(R = k) ∝ γ_k − L γ_k² among
    the points x_1 … x_N where gradients were estimated. It is drawn as the steps go by, so N need
    not be known. Read it with `random_iterate`.

    Args:
      learning_rate: γ, or a schedule.
      num_directions: K, the minibatch.
      prox: ``prox(tree, step_size)`` of h: a projection for a constraint, a soft threshold for an
        ℓ1 norm; None for h = 0. It is given float32 or wider.
      smoothness: L, the Lipschitz constant of ∇f; 0 draws R with P ∝ γ_k. Steps with γ_k ≥ 1/L
        are not drawn while there are others. For RSGF's law pass 2 L (d + 4).
      radius, key, directions, stencil, baseline, evaluate, shaping: as for `zo_gradient`.

    Returns:
      An optimiser whose update is prox(x − γ ĝ, γ) − x; K + 1 queries a step by default. Where too
      few queries are finite, ĝ is zero and the prox still acts. State: one copy of the
      parameters. Rounding x + (prox − x) may leave a projection's set by the last digit.

    Raises:
      TypeError: if ``prox`` is not a function.
      ValueError, TypeError: as `zo_gradient`.

    Source: arXiv 1308.6594, algorithms RSPG and RSPGF, with Euclidean distance: the paper's α is 1.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum((x - 2) ** 2), jnp.zeros(3)
      >>> simplex = lambda tree, step_size: optax.projections.projection_simplex(tree)
      >>> optimizer = zo.rspg(0.1, num_directions=8, radius=1e-2, key=jax.random.key(0),
      ...                     prox=simplex)
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(20):
      ...     updates, state = step(x, state)
      ...     x = optax.apply_updates(x, updates)
      >>> round(float(jnp.sum(x)), 4), zo.random_iterate(state).shape
      (1.0, (3,))
    """
    if prox is not None and not callable(prox):
        raise TypeError(f"prox must be a function prox(tree, step_size) or None; got {prox!r}.")
    return optax.chain(
        zo_gradient(
            num_directions,
            radius,
            key=key,
            directions=directions,
            stencil=stencil,
            baseline=baseline,
            evaluate=evaluate,
            shaping=shaping,
        ),
        _proximal_descent(learning_rate, prox, smoothness, key),
    )


def random_iterate(opt_state: Any) -> PyTree:
    """The iterate that `rspg` drew at random among those so far.

    Args:
      opt_state: the state of an optax chain with one `rspg` in it.

    Returns:
      A tree like params; zeros before the first step.

    Raises:
      ValueError: if there is no `rspg` in the chain.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = zo.rspg(0.1, num_directions=4, radius=1e-2, key=jax.random.key(0))
      >>> _, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> zo.random_iterate(state)  # one step so far
      Array([1., 1., 1.], dtype=float32)
    """
    found = optax.tree.get(unpack_all(opt_state), "random_iterate")
    if found is None:
        raise ValueError("opt_state has no random iterate: make the optimiser with zo.rspg.")
    return found


def _proximal_descent(
    learning_rate: Schedule, prox: Prox | None, smoothness: Number, key: jax.Array
) -> optax.GradientTransformation:
    """prox(x − γ g, γ) − x for incoming gradients g, keeping one iterate at random."""
    key = _checks.key(key)
    _checks.learning_rate(learning_rate)
    _checks.nonnegative("smoothness", smoothness)

    def init(params):
        state = RandomIterateState(
            jnp.zeros((), jnp.int32),
            jax.random.fold_in(key, 1),  # the queries have fold_in(key, 0)
            jnp.full((), -jnp.inf, scalar_dtype()),
            jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.result_type(x)), params),
            jnp.zeros((), jnp.int32),
        )
        return placed_with(state, params)

    def update(updates, state, params=None):
        step_size = scheduled(learning_rate, state.count)
        # Step k has the largest log w_k + Gumbel noise with P ∝ w_k, whatever N is. This needs no
        # sum of weights, which would outgrow its terms. The high mode has the noise's tail.
        weight = step_size - jnp.asarray(smoothness, step_size.dtype) * jnp.square(step_size)
        noise = jax.random.gumbel(
            jax.random.fold_in(state.key, state.draw), (), state.score.dtype, mode="high"
        )
        score = jnp.log(jnp.maximum(weight, 0)) + noise
        next_key, draw = next_round(state.key, state.draw)
        new = RandomIterateState(
            optax.safe_increment(state.count),
            next_key,
            jnp.maximum(score, state.score),
            jax.tree.map(
                lambda x, kept: jnp.where(score >= state.score, x, kept),
                params,
                state.random_iterate,
            ),
            draw,
        )
        descent = scale(-step_size, widen(updates))
        if prox is not None:
            wide = widen(params)
            moved = prox(jax.tree.map(jnp.add, wide, descent), step_size)
            descent = jax.tree.map(jnp.subtract, moved, wide)
        return cast_like(descent, updates), new

    return optax.GradientTransformation(init, update)


__all__ = ["random_iterate", "rspg"]
