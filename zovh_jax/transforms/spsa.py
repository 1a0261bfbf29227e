"""SPSA: simultaneous perturbation, under its classical name and with its gain sequences.

Source: Spall, IEEE Trans. Automatic Control 37:3 (1992); gains: Spall, IEEE Trans. Aerospace and
Electronic Systems 34:3 (1998). Estimator: (E14) along random signs. Queries per step: 2K.
"""

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._tree import scalar_dtype
from zovh_jax._types import PyTree, Schedule
from zovh_jax.directions import masked, rademacher
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import central
from zovh_jax.transforms._rounds import descent
from zovh_jax.transforms.zo_gradient import zo_gradient


class Gains(NamedTuple):
    """Spall's gain sequences, as optax schedules of the step k = 0, 1, ….

    Attributes:
      learning_rate: a_k = a/(A + k + 1)^alpha.
      radius: c_k = c/(k + 1)^gamma.
    """

    learning_rate: Callable[[Any], jax.Array]
    radius: Callable[[Any], jax.Array]


def spsa_gains(
    a: float, c: float, *, stability: float = 0.0, alpha: float = 0.602, gamma: float = 0.101
) -> Gains:
    """Gain sequences a_k = a/(A + k + 1)^alpha and c_k = c/(k + 1)^gamma, as schedules.

    The exponents are the smallest that the theory of convergence allows, Spall's advice in
    practice; 1 and 1/6 are optimal asymptotically.

    Args:
      a: sets the learning rate.
      c: the first radius: Spall's advice is the standard deviation of the values' noise.
      stability: A ≥ 0: about a tenth of the steps to come, so that a may be larger.
      alpha, gamma: the exponents.

    Returns:
      `Gains`: schedules ``learning_rate`` and ``radius``.

    Raises:
      ValueError: for numbers out of range.

    Source: Spall, IEEE Trans. Aerospace and Electronic Systems 34:3 (1998).

    Example:
      >>> import zovh_jax as zo
      >>> gains = zo.spsa_gains(1.0, 0.1, stability=99.0, alpha=0.5)
      >>> float(gains.learning_rate(0)), round(float(gains.radius(0)), 4)
      (0.10000000149011612, 0.1)
    """
    for name, value in (("a", a), ("c", c), ("alpha", alpha), ("gamma", gamma)):
        _checks.positive(name, value)
    if not isinstance(stability, numbers.Real) or not 0 <= stability < math.inf:
        raise ValueError(f"stability must be finite and at least 0, got {stability!r}.")

    def decaying(start, offset, exponent):
        def schedule(count):
            steps = jnp.asarray(count).astype(scalar_dtype()) + (1.0 + offset)
            return start / steps**exponent

        return schedule

    return Gains(decaying(a, float(stability), alpha), decaying(c, 0.0, gamma))


def spsa(
    learning_rate: Schedule,
    *,
    radius: Schedule,
    key: jax.Array,
    num_directions: int = 1,
    mask: PyTree = True,
    evaluate: Evaluator = vmapped(),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """SPSA: θ ← θ − a_k (f(θ + c_kΔ) − f(θ − c_kΔ))/(2c_k) Δ⁻¹, Δ random signs.

    Δ⁻¹ is elementwise, so it is Δ. For other laws of Δ see `zo.zo_sgd` with ``central()``; for
    query reuse chain ``zo.zo_gradient(…), optax.scale_by_learning_rate(a_k)``.

    Args:
      learning_rate: a_k: a number or a schedule, such as ``spsa_gains(…).learning_rate``.
      radius: c_k: a number or a schedule, such as ``spsa_gains(…).radius``.
      key: ``jax.random.key(seed)``.
      num_directions: K, pairs that are averaged; 1 is the classical algorithm.
      mask: a tree of bools like params, or a prefix of it: False leaves are frozen.
      evaluate, shaping: as for `zo.zo_gradient`.

    Returns:
      An optimiser; 2K queries a step. State: scalars.

    Raises:
      ValueError, TypeError: as `zo.zo_gradient`.

    Source: Spall 1992, eq. 2.1–2.2.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> gains = zo.spsa_gains(0.2, 0.01, stability=5.0)
      >>> optimizer = zo.spsa(
      ...     gains.learning_rate, radius=gains.radius, key=jax.random.key(0)
      ... )
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(50):
      ...     updates, state = step(x, state)
      ...     x = optax.apply_updates(x, updates)
      >>> float(f(x)) < 0.1, int(zo.num_queries(state))
      (True, 100)
    """
    return optax.chain(
        zo_gradient(
            num_directions,
            radius,
            key=key,
            directions=masked(rademacher(), mask),
            stencil=central(),
            evaluate=evaluate,
            shaping=shaping,
        ),
        descent(learning_rate),
    )


__all__ = ["Gains", "spsa", "spsa_gains"]
