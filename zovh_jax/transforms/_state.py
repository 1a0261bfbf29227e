"""What the state of a transformation that queries holds, and what is checked about it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax._jaxprs import mapped
from zovh_jax._tree import scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax._words import unpack_all
from zovh_jax.queries import Queries

LAST = np.iinfo(np.int32).max
"""The largest count."""
GOLDEN = np.uint32(0x9E3779B9)
"""Added to a key whose rounds are used up. It is odd: 2³² such keys are all different."""


class Summary(NamedTuple):
    """What the values of the rounds so far told; ``zo.diagnostics`` reads it.

    Attributes:
      last_mean: mean of the last round's finite values, along all directions; ∞ where none was.
      last_origin: f(θ) of the last round; ∞ where it is not known.
      best_value: the least finite value met so far, f(θ) included; ∞ before there is one.
      last_spread: standard deviation of the last round's finite values; 0 for fewer than two.
    """

    last_mean: jax.Array
    last_origin: jax.Array
    best_value: jax.Array
    last_spread: jax.Array

    @classmethod
    def init(cls) -> "Summary":
        """Nothing yet: infinities, as NaN would set off ``jax.debug_nans``."""
        mean, origin, best = (jnp.full((), jnp.inf, scalar_dtype()) for _ in range(3))
        return cls(mean, origin, best, jnp.zeros((), scalar_dtype()))


@jax.tree_util.register_static
class Shapes:
    """Names and shapes of the leaves that a state was made for: static, so never traced or saved.

    One of no leaves equals every other: ``optax.tree.map_params`` compares a state with that of an
    empty tree.
    """

    leaves: tuple[tuple[str, tuple[int, ...]], ...]

    def __init__(self, leaves: tuple[tuple[str, tuple[int, ...]], ...]):
        self.leaves = leaves

    @classmethod
    def of(cls, params: PyTree) -> "Shapes":
        """Those of a tree of arrays, or of anything with shapes."""
        paths, _ = jax.tree_util.tree_flatten_with_path(params)
        return _shapes(tuple((_name(path), tuple(np.shape(x))) for path, x in paths))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Shapes):
            return NotImplemented
        return not self.leaves or not other.leaves or self.leaves == other.leaves

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"Shapes of {len(self.leaves)} leaves"

    def __reduce__(self):
        return _shapes, (self.leaves,)

    def difference(self, other: "Shapes") -> str:
        """Where they differ, in words; "" where they don't."""
        if self == other:
            return ""
        here, there = dict(self.leaves), dict(other.leaves)
        for path, shape in here.items():
            if path not in there:
                return f"params{path} is not among the leaves that the state was made for"
            if there[path] != shape:
                return f"params{path} has shape {shape}, and the state was made for {there[path]}"
        missing = [path for path in there if path not in here]
        if missing:
            return f"the state was made for a leaf params{missing[0]}, which params lacks"
        return "the leaves come in another order than those that the state was made for"


def _name(path: tuple[Any, ...]) -> str:
    """A leaf's name. Flax passes its variables to ``init``, and their values to ``update``."""
    return jax.tree_util.keystr(path).removesuffix(".value")


@functools.lru_cache(maxsize=256)
def _shapes(leaves: tuple[tuple[str, tuple[int, ...]], ...]) -> Shapes:
    """The one object for these leaves: jit compares states at every call, by identity first."""
    return Shapes(leaves)


class ZerothOrderState(NamedTuple):
    """State of a transformation that spends queries.

    Attributes:
      count: steps taken; it stays at 2³¹ − 1. Schedules see it.
      key: ``fold_in`` of the key given and 0; another after 2³¹ rounds.
      num_queries: objective evaluations spent so far; it stays at 2³¹ − 1.
      num_nonfinite: how many of them came back NaN or ±Inf and were dropped.
      history: past rounds; an empty tuple without reuse.
      round: rounds made with this key. Round t uses ``fold_in`` of the key and t (its queries
        ``directions.round_key``, mostly the same). After 2³¹ of them comes a new key, at round 0:
        no direction is drawn twice.
      num_dropped: directions that were not used, as a value was not finite or the radius not
        above zero.
      num_flat: rounds whose values were all equal: the objective is constant there, or the radius
        below rounding.
      summary: what the values told.
      shapes: those of the parameters; static.
      shaping: what `zo.shaping` remembers of past rounds; mostly an empty tuple.
    """

    count: jax.Array  # type: ignore[assignment]  # shadows tuple.count, as in optax
    key: jax.Array
    num_queries: jax.Array
    num_nonfinite: jax.Array
    history: Any
    round: jax.Array
    num_dropped: jax.Array
    num_flat: jax.Array
    summary: Summary
    shapes: Shapes
    shaping: Any

    @classmethod
    def init(
        cls, key: jax.Array, history: Any, params: PyTree, shaping: Any = ()
    ) -> "ZerothOrderState":
        """Before the first step."""
        # Separate buffers, and a key of our own: donating the state must not delete the caller's.
        count, queries, bad, turn, dropped, flat = (jnp.zeros((), jnp.int32) for _ in range(6))
        key = jax.random.fold_in(key, 0)
        shapes = Shapes.of(params)
        summary = Summary.init()
        return cls(count, key, queries, bad, history, turn, dropped, flat, summary, shapes, shaping)

    def after(self, queries: Queries, spent: int, value: Any) -> "ZerothOrderState":
        """The state after one more round; the history stays as it was.

        Args:
          queries: the round.
          spent: how many evaluations it took.
          value: f(θ) as the caller gave it, or None.
        """
        key, turn = next_round(self.key, self.round)
        origin = value if queries.origin is None else queries.origin
        summary, num_finite, flat = _summary_of(queries, origin, self.summary.best_value)
        bad = queries.values.size - num_finite
        dropped = jnp.sum(~queries.valid, dtype=jnp.int32) if queries.stencil.paired else bad
        dropped = jnp.where(queries.radius > 0, dropped, queries.plan.size)
        if queries.origin is not None:
            bad = bad + (~jnp.isfinite(queries.origin)).astype(bad.dtype)
        return self._replace(
            count=optax.safe_increment(self.count),
            key=key,
            num_queries=saturating_add(self.num_queries, spent),
            num_nonfinite=saturating_add(self.num_nonfinite, bad),
            round=turn,
            num_dropped=saturating_add(self.num_dropped, dropped),
            num_flat=saturating_add(self.num_flat, flat),
            summary=summary,
        )


def _summary_of(
    queries: Queries, origin: Any, best: jax.Array
) -> tuple[Summary, jax.Array, jax.Array]:
    """What a round's values tell; how many are finite, and whether those are all the same."""
    values = queries.values.reshape(-1)
    finite = jnp.isfinite(values)
    # Two reductions in place of six, which would take longer than many an objective.
    ends = jnp.stack([jnp.where(finite, values, jnp.inf), jnp.where(finite, -values, jnp.inf)])
    least, negative = jnp.min(ends, 1)
    start = jnp.where(least < jnp.inf, least, 0)
    # In units of the range, so that squares of large values don't overflow.
    unit = jnp.where(-negative > least, -negative - least, 1)
    above = (jnp.where(finite, values, start) - start) / unit
    n, total, squares = jnp.sum(jnp.stack([finite.astype(values.dtype), above, above * above]), 1)
    rise = total / jnp.maximum(n, 1)
    variance = jnp.maximum(squares - total * rise, 0) / jnp.maximum(n - 1, 1)
    flat = least == -negative
    if origin is None:
        origin = jnp.full((), jnp.inf, values.dtype)
        flat &= n > 1
    else:
        origin = jnp.asarray(origin, values.dtype)
        known = jnp.isfinite(origin)
        origin = jnp.where(known, origin, jnp.inf)
        flat &= (n + known.astype(n.dtype) > 1) & (~known | (origin == least))
    summary = Summary(
        jnp.where(n > 0, start + unit * rise, jnp.inf),
        origin,
        jnp.minimum(jnp.minimum(best, least), origin),
        unit * jnp.sqrt(variance),
    )
    return summary, n.astype(jnp.int32), flat


def next_round(key: jax.Array, turn: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Key and number of the next round: after the last number a new key, from 0 on."""
    over = turn >= LAST
    # Added to its words: unlike a fold, which every step would pay for, it costs nothing.
    words = jax.random.key_data(key) + jnp.where(over, GOLDEN, np.uint32(0))
    key = jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
    return key, jnp.where(over, 0, turn + 1)


def saturating_add(total: jax.Array, more: Any) -> jax.Array:
    """The sum, or the largest int32."""
    more = jnp.asarray(more, jnp.int32)
    return jnp.where(total > LAST - more, LAST, total + more)


def counts_of(state: Any) -> ZerothOrderState | None:
    """The `ZerothOrderState` in a transformation's state; None where there is none."""
    found = state if isinstance(state, ZerothOrderState) else getattr(state, "counts", None)
    return found if isinstance(found, ZerothOrderState) else None


def check_state(name: str, state: Any, params: PyTree, init: Callable[[PyTree], Any]) -> None:
    """Raises for a state that was made for other parameters or with other settings.

    Args:
      name: of the transformation, for errors.
      state: the state to be checked.
      params: the parameters that it is to be used with.
      init: makes a fresh state of them.
    """
    counts = counts_of(state)
    if counts is None:
        raise ValueError(
            f"{name}: this is not its state, but {type(state).__name__}. Pass what init or the "
            "last update gave; a state that was saved comes back with zo.unpack."
        )
    if mapped():
        return  # inside jax.shard_map arrays are parts of what init saw
    different = Shapes.of(params).difference(counts.shapes)
    if different:
        raise ValueError(f"{name}: this is a state of other parameters: {different}.")
    want, have = _shapes_by_path(jax.eval_shape(init, params)), _shapes_by_path(state)
    for path in [*want, *have]:
        if want.get(path) != have.get(path):
            wanted, got = (
                f"shape {x[path]}" if path in x else "no such array" for x in (want, have)
            )
            raise ValueError(
                f"{name}: this is a state of other settings: state{path} should have {wanted} "
                f"and has {got}. num_directions, history_size, stencil, baseline and "
                "store_directions and shaping must be those that the state was made with."
            )


def _shapes_by_path(tree: Any) -> dict[str, tuple[int, ...]]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): tuple(np.shape(x)) for path, x in paths}


def num_queries(opt_state: Any) -> jax.Array:
    """Objective evaluations spent so far, summed over everything in an optimiser's state.

    Args:
      opt_state: the state of any optax chain; parts that spend no queries count nothing.

    Returns:
      An int32 scalar; each part's stays at 2³¹ − 1.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = zo.zo_sgd(0.1, num_directions=4, radius=0.1, key=jax.random.key(0))
      >>> _, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> int(zo.num_queries(state))  # 4 directions and f(x)
      5
    """
    found = [n for _, n in optax.tree.get_all_with_path(unpack_all(opt_state), "num_queries")]
    return functools.reduce(saturating_add, found, jnp.zeros((), jnp.int32))


__all__ = [
    "LAST",
    "Shapes",
    "Summary",
    "ZerothOrderState",
    "check_state",
    "counts_of",
    "next_round",
    "num_queries",
    "saturating_add",
]
