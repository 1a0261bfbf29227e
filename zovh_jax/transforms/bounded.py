"""Bounds: keeps any optimiser inside a box, its queries too.

The wrapped optimiser works on an unbounded z with the objective f(P(z)). P maps every z into the
box, and the parameters are P(z). The optimiser sees an ordinary function, so that all that it does
is consistent, even taking back a step. The state holds z − P(z), zero inside the box.

- ``"clip"``: P moves what is outside to the nearest face. Beyond a face f(P(z)) is flat: a
  parameter there adds no noise to the slopes of the others. Its distance from the box shrinks by 3%
  a step, so that queries reach the inside again and bring it back if it belongs there.
- ``"reflect"``: P mirrors the outside at the face, where f(P(z)) then has a kink that steps jump
  over. A parameter leaves a face more easily, and reaches it more slowly.

Where the minimiser is in a corner, "clip" brings `scalar_newton`, `diagonal_newton`, `zoar` and
Adam within 1e-3 of it, as the tests show. "reflect" ends farther away, and stops `scalar_newton`
on its way. `low_rank_newton` may stop at a wrong face with either. Merely clipping the parameters
after each step stops `scalar_newton` and `low_rank_newton` on their way, as the parameters do not
move by the steps that these take.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax._mesh import placed_with
from zovh_jax._tree import direction_dtype
from zovh_jax._types import PyTree

SHRINKAGE = 0.97
"""The share of z's distance from the box that is left after a step."""
HOWS = ("clip", "reflect")


class BoundedState(NamedTuple):
    """State of `bounded`.

    Attributes:
      inner: that of the optimiser.
      excess: z − P(z), a tree like params in float32 or wider; scalar zeros for leaves that are no
        floats.
    """

    inner: Any
    excess: PyTree


def bounded(
    optimizer: optax.GradientTransformation,
    lower: PyTree | None,
    upper: PyTree | None,
    *,
    how: Literal["clip", "reflect"] = "clip",
) -> optax.GradientTransformationExtraArgs:
    """Keeps the queries and the parameters of an optimiser inside a box.

    ``value_fn`` is never asked outside, and ``optax.apply_updates(params, updates)`` is inside to
    the last digit, in any precision: bounds are rounded inwards to the parameters' dtype.

    Wrap the whole optimiser, its learning rate included. Extras, ``value=`` and a ``key`` of the
    objective pass through. Parameters that start outside are moved to the box by the first update,
    whose queries already treat them as inside.

    Args:
      optimizer: any optimiser of this library, or a chain with one in it.
      lower, upper: numbers, arrays, or trees of them like params (or a prefix of it); None, for all
        or in the place of a leaf, for no bound. Leaves that are not floats have none.
      how: "clip" or "reflect": see the module's docstring. "clip" finds corners.

    Returns:
      An optimiser; it spends no queries of its own. State: one copy of the parameters besides the
      optimiser's. An iterate that the optimiser keeps (`zo.random_iterate`) is a z, which may be
      outside.

    Raises:
      ValueError: for an unknown ``how``, an empty box, a tree of bounds that is not a prefix of
        params, or a state that is not its own.
      TypeError: for a missing ``params`` or ``value_fn``.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum((x - jnp.array([2.0, -3.0, 0.5])) ** 2), jnp.full(3, 0.4)
      >>> inner = zo.scalar_newton(4, 0.1, key=jax.random.key(0))
      >>> optimizer = zo.bounded(inner, 0.0, 1.0)
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(100):
      ...     updates, state = step(x, state)
      ...     x = optax.apply_updates(x, updates)
      >>> [abs(round(float(each), 2)) for each in x]
      [1.0, 0.0, 0.5]
    """
    if how not in HOWS:
        raise ValueError(f'how must be "clip" or "reflect", got {how!r}.')
    inner = optax.with_extra_args_support(optimizer)

    def init(params):
        _box(lower, upper, params)  # raises here rather than in the first step
        return BoundedState(inner.init(params), placed_with(_no_excess(params), params))

    def update(updates, state, params=None, *, value_fn=None, **extra):
        if params is None:
            raise TypeError(
                "bounded needs the parameters: call update(updates, state, params, "
                "value_fn=value_fn)."
            )
        if not isinstance(state, BoundedState):
            raise ValueError(
                f"bounded: this is not its state, but {type(state).__name__}. Pass what init of "
                "the bounded optimiser, or the last update, gave."
            )
        box = _box(lower, upper, params)

        def mapped(tree):
            return box.map(lambda x, a, b: _into(x, a, b, how), tree)

        z = box.map(lambda p, a, b, o: _outside(p, o, a, b, how), params, state.excess)
        if value_fn is not None:
            objective = value_fn

            @functools.wraps(objective)
            def value_fn(point, *args, **kwargs):
                return objective(mapped(point), *args, **kwargs)

        moves, inner_state = inner.update(updates, state.inner, z, value_fn=value_fn, **extra)

        def step(x, a, b, p, u):
            target = _into((_wide(x) + _wide(u)).astype(x.dtype), a, b, how)
            return _step_to(p, target, a, b)

        def excess(x, a, b, u):
            y, a, b = _wide(x) + _wide(u), _wide(a), _wide(b)
            over = y - _into(y, a, b, how)
            over = jnp.where(jnp.isfinite(over), over, 0)
            # However far out a step throws it, it comes back within a limited time.
            return SHRINKAGE * jnp.clip(over, a - b, b - a) if how == "clip" else over

        emitted = box.map(step, z, params, moves, others=lambda x, p, u: u)
        left = box.map(excess, z, moves, others=lambda x, u: jnp.zeros(()))
        return emitted, BoundedState(inner_state, left)

    return optax.GradientTransformationExtraArgs(init, update)


class _Box:
    """The bounds of each leaf, in its dtype."""

    def __init__(self, bounds: list[Any], treedef: Any):
        self.bounds, self.treedef = bounds, treedef

    def map(self, change, tree, *rest, others=lambda x, *rest: x):
        """``change(leaf, lower, upper, *rest)`` of floats, ``others(leaf, *rest)`` of the rest."""
        leaves = [self.treedef.flatten_up_to(x) for x in (tree, *rest)]
        return self.treedef.unflatten(
            [
                others(x, *xs) if bound is None else change(jnp.asarray(x), *bound, *xs)
                for bound, x, *xs in zip(self.bounds, *leaves, strict=True)
            ]
        )


def _box(lower: PyTree | None, upper: PyTree | None, params: PyTree) -> _Box:
    paths, treedef = jax.tree_util.tree_flatten_with_path(params)
    sides = [
        _spread(name, bound, params, treedef)
        for name, bound in (("lower", lower), ("upper", upper))
    ]
    bounds: list[Any] = []
    for (path, leaf), a, b in zip(paths, *sides, strict=True):
        dtype = _float_of(leaf)
        if dtype is None:
            bounds.append(None)
            continue
        low, high = _inwards(a, dtype, -jnp.inf), _inwards(b, dtype, jnp.inf)
        known = not isinstance(low, jax.core.Tracer) and not isinstance(high, jax.core.Tracer)
        if known and not jnp.all(low <= high):
            raise ValueError(
                f"the box of params{jax.tree_util.keystr(path)} is empty: no number of dtype "
                f"{dtype} is at least lower={a!r} and at most upper={b!r}."
            )
        bounds.append((low, high))
    return _Box(bounds, treedef)


def _spread(name: str, bound: PyTree | None, params: PyTree, treedef: Any) -> list[Any]:
    """A bound for each leaf; None where there is none."""
    is_none = lambda x: x is None  # noqa: E731
    try:
        # One object a leaf, so that arrays are not taken for trees.
        prefix = jax.tree.map(lambda x: [x], bound, is_leaf=is_none)
        spread = jax.tree.broadcast(prefix, params, is_leaf=lambda x: isinstance(x, list))
    except ValueError as error:
        raise ValueError(
            f"{name} must be a number, None, or a tree of them that is a prefix of params, "
            f"{treedef}; got {jax.tree.structure(bound)}."
        ) from error
    return [x[0] for x in treedef.flatten_up_to(spread)]


def _float_of(leaf: Any) -> Any:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jax.dtypes.extended) or not jnp.issubdtype(dtype, jnp.floating):
        return None
    return jnp.dtype(jax.dtypes.canonicalize_dtype(dtype))


def _inwards(bound: Any, dtype: Any, none: float) -> jax.Array:
    """A bound in a leaf's dtype, rounded into the box; ``none`` (±∞) where there is none."""
    if bound is None:
        return jnp.asarray(none, dtype)
    wide = bound if isinstance(bound, jax.Array) else np.asarray(bound, np.float64)
    narrow = wide.astype(dtype)
    back = narrow.astype(wide.dtype)
    outside = back < wide if none < 0 else back > wide
    narrow = jnp.asarray(narrow)
    return jnp.where(outside, jnp.nextafter(narrow, jnp.asarray(-none, dtype)), narrow)


def _no_excess(params: PyTree) -> PyTree:
    def zero(x):
        dtype = _float_of(x)
        if dtype is None:
            return jnp.zeros(())
        return jnp.zeros(jnp.shape(x), direction_dtype(dtype))

    return jax.tree.map(zero, params)


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(direction_dtype(x.dtype))


def _into(z: jax.Array, low: jax.Array, high: jax.Array, how: str) -> jax.Array:
    """P(z)."""
    if how == "clip":
        return jnp.clip(z, low, high)
    both = jnp.isfinite(low) & jnp.isfinite(high)
    start = jnp.where(both, low, 0)
    width = jnp.where(both, high, 1) - start
    period = 2 * jnp.where(width > 0, width, 1)
    t = jnp.mod(z - start, period)
    folded = start + jnp.minimum(t, period - t)
    mirrored = jnp.where(z < low, low, high)
    mirrored = jnp.where(jnp.isfinite(mirrored), mirrored, 0)
    folded = jnp.where(both, folded, mirrored - (z - mirrored))
    # Inside, z itself: no digit is lost.
    return jnp.where((z >= low) & (z <= high), z, jnp.clip(folded, low, high))


def _outside(p: jax.Array, excess: jax.Array, low: jax.Array, high: jax.Array, how: str):
    """z of the parameters; where other code has moved them, the parameters, brought inside."""
    z, inside = (_wide(p) + excess).astype(p.dtype), jnp.clip(p, low, high)
    back = _into(z, low, high, how)
    close = 4 * jnp.finfo(p.dtype).eps * (jnp.abs(p) + jnp.abs(back))
    return jnp.where(jnp.abs(back - p) <= close, z, inside)


def _step_to(p: jax.Array, target: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """An update whose sum with p, rounded, is inside: as near to the target as that allows."""
    info = jnp.finfo(p.dtype)

    def rounded(x):
        # Compilers may keep more digits than a narrow type has.
        return jax.lax.reduce_precision(x, info.nexp, info.nmant)

    step = rounded(target - p)
    after = rounded(p + step)
    down, up = (jnp.nextafter(step, jnp.asarray(sign, p.dtype)) for sign in (-jnp.inf, jnp.inf))
    step = jnp.where(after > high, down, jnp.where(after < low, up, step))
    after = rounded(p + step)
    was_inside = (p >= low) & (p <= high)
    return jnp.where(was_inside & ~((after >= low) & (after <= high)), jnp.zeros_like(p), step)


__all__ = ["BoundedState", "bounded"]
