"""R-AdaZO: adaptive steps whose second moment is that of the first moment.

Source: Shu et al., arXiv 2502.01014, Alg. 1. Estimator: (E13)–(E15). Queries per step: K with the
default forward stencil and averaged baseline (K + 1 with ``baseline=origin()``, the paper's form).
"""

import jax
import optax

from zovh_jax._types import Number, Schedule
from zovh_jax.baselines import Baseline, mean
from zovh_jax.directions import Directions, gaussian
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.reuse import Reuse, uniform
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._precision import in_wide
from zovh_jax.transforms._rounds import descent
from zovh_jax.transforms.zo_gradient import zo_gradient


def scale_by_radazo(
    b1: Number = 0.9, b2: Number = 0.99, eps: Number = 1e-8, *, eps_in_sqrt: bool = False
) -> optax.GradientTransformation:
    """Scales incoming gradient estimates as R-AdaZO does.

    m ← b1 m + (1 − b1) g, v ← b2 v + (1 − b2) m², and m/(√v + eps) is emitted; m and v start at 0
    and no bias is corrected. Adam has g² where this has m²: an estimate from few queries is
    mostly noise, and its square mostly the noise's variance; that of the average is much less.

    Args:
      b1, b2: decay rates of the two moments.
      eps: added to √v.
      eps_in_sqrt: emit m/√(v + eps) instead, which is how the paper writes it; its authors' later
        code adds eps to the root.

    Returns:
      A transformation that queries nothing. State: two copies of the parameters, in float32 or
      wider.

    Source: R-AdaZO (arXiv 2502.01014), Alg. 1.

    Example:
      >>> import jax.numpy as jnp, zovh_jax as zo
      >>> scale, g = zo.scale_by_radazo(b1=0.5, b2=0.75), jnp.array([1.0, -4.0])
      >>> updates, _ = scale.update(g, scale.init(g))  # m = g/2, v = m²/4
      >>> [round(float(x), 4) for x in updates]
      [2.0, -2.0]
    """
    return in_wide(
        optax.chain(
            optax.ema(b1, debias=False),
            optax.scale_by_rms(b2, eps, eps_in_sqrt=eps_in_sqrt),
        )
    )


def radazo(
    learning_rate: Schedule,
    *,
    num_directions: int,
    radius: Schedule,
    key: jax.Array,
    b1: Number = 0.9,
    b2: Number = 0.99,
    eps: Number = 1e-8,
    eps_in_sqrt: bool = False,
    history_size: int = 1,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    baseline: Baseline = mean(),
    evaluate: Evaluator = vmapped(),
    store_directions: bool = False,
    reuse: Reuse = uniform(),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """R-AdaZO: θ ← θ − η m/(√v + eps), the moments as in `scale_by_radazo`.

    Args:
      learning_rate: η, or a schedule.
      b1, b2, eps, eps_in_sqrt: as for `scale_by_radazo`.
      history_size: N, rounds that a gradient is made from: 1 is the paper, more is R-AdaZO on
        ZoAR's gradients.
      num_directions, radius, key, directions, stencil, baseline, evaluate, store_directions,
        reuse, shaping: as for `zo_gradient`. The paper's own estimate is
        ``baseline=zo.baselines.origin(), directions=zo.directions.sphere()``, for one query more.

    Returns:
      An optimiser; K queries a step (2K central, 2K + 1 three_point). State: two copies of the
      parameters, and what `zo_gradient` keeps.

    Raises:
      ValueError, TypeError: as `zo_gradient`.

    Source: R-AdaZO (arXiv 2502.01014), Alg. 1.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = zo.radazo(0.03, num_directions=8, radius=1e-2, key=jax.random.key(0))
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(50):
      ...     updates, state = step(x, state)
      ...     x = optax.apply_updates(x, updates)
      >>> float(f(x)) < 0.1, int(zo.num_queries(state))
      (True, 400)
    """
    return optax.chain(
        zo_gradient(
            num_directions,
            radius,
            key=key,
            directions=directions,
            stencil=stencil,
            baseline=baseline,
            history_size=history_size,
            evaluate=evaluate,
            store_directions=store_directions,
            reuse=reuse,
            shaping=shaping,
        ),
        scale_by_radazo(b1, b2, eps, eps_in_sqrt=eps_in_sqrt),
        descent(learning_rate),
    )


__all__ = ["radazo", "scale_by_radazo"]
