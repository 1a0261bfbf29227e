"""ZO-AdaMM: AMSGrad on zeroth-order gradients, with a projection onto a box.

Source: Chen et al., NeurIPS 2019, arXiv 1910.06513, Alg. 1. Estimator: (E13). Queries per step:
K + 1 (forward, the centre included), 2K (central), 2K + 1 (three_point).
"""

import jax
import jax.numpy as jnp
import optax

from zovh_jax._tree import widen
from zovh_jax._types import Number, PyTree, Schedule
from zovh_jax.baselines import Baseline, origin
from zovh_jax.directions import Directions, gaussian
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._precision import in_wide, on_floats
from zovh_jax.transforms._rounds import descent
from zovh_jax.transforms.zo_gradient import zo_gradient


def scale_by_zo_adamm(
    b1: Number = 0.9, b2: Number = 0.99, eps: Number = 1e-8
) -> optax.GradientTransformation:
    """Scales incoming gradient estimates as ZO-AdaMM does.

    m ← b1 m + (1 − b1) g, v ← b2 v + (1 − b2) g², v̂ ← max(v̂, v), and m/(√v̂ + eps) is emitted.
    This is ``optax.scale_by_amsgrad`` without its bias corrections, which the paper lacks.

    Args:
      b1, b2: decay rates of the two moments. (The authors' attacks use 0.9, and 0.3 or 0.9.)
      eps: added to √v̂; the paper starts from a positive v̂ instead.

    Returns:
      A transformation that queries nothing. State: three copies of the parameters, in float32 or
      wider.

    Source: ZO-AdaMM (arXiv 1910.06513), Alg. 1.

    Example:
      >>> import jax.numpy as jnp, zovh_jax as zo
      >>> scale, g = zo.scale_by_zo_adamm(b1=0.5, b2=0.75), jnp.array([1.0, -4.0])
      >>> updates, state = scale.update(g, scale.init(g))  # m = g/2, v̂ = g²/4
      >>> updates, _ = scale.update(0 * g, state)  # m = g/4, and v̂ does not fall
      >>> [round(float(x), 4) for x in updates]
      [0.5, -0.5]
    """
    return in_wide(
        optax.scale_by_amsgrad(b1, b2, eps, bias_correction_mu=False, bias_correction_nu=False)
    )


def zo_adamm(
    learning_rate: Schedule,
    *,
    num_directions: int,
    radius: Schedule,
    key: jax.Array,
    b1: Number = 0.9,
    b2: Number = 0.99,
    eps: Number = 1e-8,
    lower: PyTree | None = None,
    upper: PyTree | None = None,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    baseline: Baseline = origin(),
    evaluate: Evaluator = vmapped(),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """ZO-AdaMM: θ ← Π(θ − η m/(√v̂ + eps)), the moments as in `scale_by_zo_adamm`.

    Π projects y in the Mahalanobis norm: it minimises Σ_i √v̂_i (x_i − y_i)² over x in the box. Each
    coordinate takes the nearest point of its interval, whatever its weight: Π is a clip.
    For query reuse or stored directions chain ``zo.zo_gradient(…), zo.scale_by_zo_adamm(…),
    optax.scale_by_learning_rate(η)``.

    Args:
      learning_rate: η, or a schedule.
      b1, b2, eps: as for `scale_by_zo_adamm`.
      lower, upper: the box: numbers, or trees of arrays like params or prefixes of it; None is
        no bound. Parameters that start outside are inside after a step, to rounding. Queries go
        up to radius × ‖u‖ beyond it.
      num_directions, radius, key, directions, stencil, baseline, evaluate, shaping: as for
        `zo_gradient`.
        The paper draws on the sphere: ``directions=zo.directions.sphere()``.

    Returns:
      An optimiser; K + 1 queries a step by default. State: three copies of the parameters.

    Raises:
      ValueError, TypeError: as `zo_gradient`.

    Source: ZO-AdaMM (arXiv 1910.06513), Alg. 1.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = zo.zo_adamm(0.05, num_directions=8, radius=1e-2, key=jax.random.key(0),
      ...                         lower=0.5)
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(30):
      ...     updates, state = step(x, state)
      ...     x = optax.apply_updates(x, updates)
      >>> [round(float(each), 4) for each in x]
      [0.5, 0.5, 0.5]
    """
    parts = [
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
        scale_by_zo_adamm(b1, b2, eps),
        descent(learning_rate),
    ]
    if lower is not None or upper is not None:
        parts.append(on_floats(_stay_in_box(lower, upper)))
    return optax.chain(*parts)


def _stay_in_box(lower: PyTree | None, upper: PyTree | None) -> optax.GradientTransformation:
    """Clips updates so that parameters plus updates stay in the box."""

    def clip(updates, params):
        low, high = (
            jax.tree.broadcast(sign * jnp.inf if bound is None else bound, params)
            for sign, bound in ((-1, lower), (1, upper))
        )

        def clip_leaf(u, wide, a, b):
            # The update is clipped, not the sum: far from the box nothing is rounded.
            a, b = (jnp.asarray(bound, wide.dtype) - wide for bound in (a, b))
            return jnp.clip(u.astype(wide.dtype), a, b).astype(u.dtype)

        return jax.tree.map(clip_leaf, updates, widen(params), low, high)

    return optax.stateless(clip)


__all__ = ["scale_by_zo_adamm", "zo_adamm"]
