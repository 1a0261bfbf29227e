"""Newton's method on a model of all values, in a metric that it learns.

Queries per step: K. The module `regression` has the model, `region` where it is asked for.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._products import matmul
from zovh_jax._rows import raveled, unraveled
from zovh_jax._tree import Layout, scalar_dtype
from zovh_jax._types import Leaves, Number, PyTree
from zovh_jax.baselines import none
from zovh_jax.directions import Directions, masked, rademacher
from zovh_jax.directions.wrappers import Wrapper
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.transforms._rounds import Rounds, ZerothOrderState, finite_or_zero, transformation
from zovh_jax.transforms.model.region import REACHES, Region, Sizes, ask, changed, orthonormal
from zovh_jax.transforms.model.regression import Levels, Model, search, taus

LEARNING = 0.15
"""How much of what the model says about the metric it learns in d queries."""
WIDEST = 100.0
"""The largest ratio of an eigenvalue to the typical one that the metric learns from."""
LEAST = 60
"""The least number of values in memory by default, besides K: few unknowns leave room for more."""
MOST = 1500
"""The most values in memory by default, besides K."""
FARTHEST = 10.0
"""How much longer minimisers' radii are where the model is exact, which takes double precision."""
PATIENCE = 8
"""After so many rounds in a row without a better value f(θ) is asked again: it may be wrong."""
FAR = 1e4
"""Values farther than so many radii are left out: they tell nothing, and overflow."""


class ModelNewtonState(NamedTuple):
    """State of `model_newton`.

    Attributes:
      counts: the counts and the key.
      points: where values in memory were asked, less θ, [m, d]; 0 where there is none yet.
      values: the values, [m]; infinite where there is none yet.
      level: f(θ), as far as it is known; infinite before the first step.
      region: where points are asked.
      levels: how far values are believed.
      scale: s of the last model, 0 before there is one; see `regression`.
      failures: rounds without a better value since the last one that had one, or asked f(θ).
    """

    counts: ZerothOrderState
    points: jax.Array
    values: jax.Array  # type: ignore[assignment]
    level: jax.Array
    region: Region
    levels: Levels
    scale: jax.Array
    failures: jax.Array

    @property
    def compares_rounds(self) -> bool:
        """Values of one round are compared with those of another one."""
        return True


def model_newton(
    num_directions: int,
    radius: Number,
    *,
    key: jax.Array,
    memory: int | None = None,
    max_size: int = 200,
    mask: PyTree = True,
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """Newton's method on a full quadratic model, for tens of parameters. No learning rate.

    The model is regressed on all values in memory, each weighed by its distance in the metric that
    the model has learnt so far, and by how quadratic the objective was found to be at that
    distance (by evidence, see `zovh_jax.transforms.model.regression`). Where the objective bends,
    the model has a cubic form as well. A round asks for the model's minimisers within balls of
    several radii, and for points around the first of them, along random directions that are
    orthonormal in the metric. The step goes to the best of them; it is zero where none is better
    than θ.

    Quadratics are solved in 1.1 to 1.3 times as many queries as they have unknowns,
    (d + 1)(d + 2)/2, whatever their condition, from d = 5 on, if memory has room for as many. The
    value at θ is asked at the start; later it is known from the round that led there, so the
    updates must be applied as they are. It is asked again after eight rounds without a better one:
    a value that was wrong, or lucky, does not end the run. The values of rounds are compared, so
    they must be values of one objective: on minibatches use `zo.scalar_newton` or
    `zo.diagonal_newton`. Noise that does not depend on the round is averaged as far as memory goes;
    steps end where it hides what is left to gain. It is a local method: of several minima it finds
    one.

    Args:
      num_directions: K, at least 2: the points of a round. They can be asked in parallel; more of
        them need fewer rounds and hardly more queries.
      radius: the distance from θ of the first round's points: about as far as the objective is
        expected to be of one piece, or a tenth of the distance to the optimum. It adapts.
      key: a PRNG key.
      memory: how many values are kept, those nearest to θ in the metric; None for as many as a
        quadratic has unknowns, but from 60 to 1 500, and K more. All of a Hessian is known only if
        its (d + 1)(d + 2)/2 unknowns have room: up to d = 50 or so by default.
      max_size: the largest d that is accepted.
      mask: a tree of bools like params, or a prefix of it: False leaves are frozen.
      evaluate: how the queries are evaluated.

    Returns:
      An optimiser: no learning rate, and the updates are steps downhill. Queries a step: K.
      ``value=f(params)`` may be passed: it is believed, and saves nothing. State: m(d + 1) + d²
      numbers. Time beyond the queries': O(m³ + m²d + d³) a step, in float32 or float64; float64
      is needed for a precision in f beyond 1e-6 or so of its size.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them, and as `zo.zo_gradient`; at
        ``init`` for more than max_size parameters.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f = lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2  # Rosenbrock's
      >>> optimizer, x = zo.model_newton(6, 0.3, key=jax.random.key(0)), jnp.array([-1.2, 1.0])
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda state, x: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(60):
      ...     updates, state = step(state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(f(x) < 1e-6)
      True
    """
    k = _checks.positive_int("num_directions", num_directions)
    if k < 2:
        raise ValueError("num_directions must be at least 2: θ and a point beside it; got 1.")
    first = _checks.positive("radius", radius)
    _checks.positive_int("max_size", max_size)
    if memory is not None:
        _checks.positive_int("memory", memory)
    num_steps = min(len(REACHES), max(1, k // 4))
    family = masked(rademacher(), mask)
    rounds = Rounds(
        num_directions=k,
        radius=1.0,
        key=key,
        directions=family,
        baseline=none(),
        evaluate=evaluate,
    )

    def init(params):
        layout, dtype = rounds.layout(params), scalar_dtype()
        d = layout.size
        if d > max_size:
            raise ValueError(
                f"model_newton models all of the Hessian: {d} parameters are above "
                f"max_size={max_size}. Use zo.low_rank_newton or zo.diagonal_newton, or raise "
                "max_size (a step takes O(memory³) time)."
            )
        size = memory or min(max((d + 1) * (d + 2) // 2, LEAST), MOST) + k
        return ModelNewtonState(
            rounds.init(params),
            jnp.zeros((size, d), dtype),
            jnp.full((size,), jnp.inf, dtype),
            jnp.full((), jnp.inf, dtype),
            Region.init(d, jnp.asarray(first, dtype)),
            Levels.init(),
            jnp.zeros((), dtype),
            jnp.zeros((), jnp.int32),
        )

    def step(updates, state, params, value_fn, value):
        del updates
        layout, leaves = rounds.layout(params), rounds.layout(params).leaves(params, "params")
        counts, region, pace = state.counts, state.region, k / layout.size
        view = _look(state)
        random = jax.random.fold_in(counts.key, counts.round)
        others = orthonormal(random, k, layout.size, scalar_dtype())
        asked = ask(view.model, view.sizes, others, num_steps, view.trust)
        fitted = view.fitted & jnp.all(jnp.isfinite(asked.points))
        z = jnp.where(fitted, asked.points, others)
        lengths = jnp.where(fitted, asked.lengths, 1)

        # The first round's first point is θ itself; afterwards its value is known, or so it seems.
        level, again = state.level, state.failures >= PATIENCE
        if value is not None:
            told = jnp.asarray(value, level.dtype)
            level, again = jnp.where(jnp.isfinite(told), told, level), False
        at_start = (~jnp.isfinite(level) | again) & (jnp.arange(k) == 0)
        moves = _rounded(jnp.where(at_start[:, None], 0, region.outside(z)), leaves, layout)
        there = dataclasses.replace(rounds, directions=_Points(family, moves))
        queries, _, counts = there.step(counts, params, value_fn, value)
        new = jnp.where(jnp.isfinite(queries.values), queries.values, jnp.inf)
        centre = jnp.where(at_start[0] & jnp.isfinite(new[0]), new[0], level)
        new = jnp.where(at_start, jnp.inf, new)
        best = jnp.argmin(new)
        better = new[best] < centre
        move = jnp.where(better, moves[best], 0)

        moved = jnp.where(better, lengths[best], 0)
        after = _adapted(region, view, z[0], centre - new[0], moved, lengths[0], pace)
        sound = fitted & jnp.all(jnp.isfinite(after.metric)) & jnp.isfinite(after.radius)
        nothing = jnp.isfinite(centre) & ~jnp.any(jnp.isfinite(new))
        smaller = jnp.where(nothing, region.radius / 2, region.radius)
        radius = jnp.where(sound, after.radius, smaller)
        after = Region(
            jnp.where(sound, after.metric, region.metric),
            jnp.maximum(radius, _resolution(leaves, first)),
        )
        points, values = _nearest(
            jnp.concatenate([view.points, moves]) - move[None],
            jnp.concatenate([centre[None], state.values, new]),
            after,
            len(state.values),
        )
        new_state = ModelNewtonState(
            counts,
            points,
            values,
            jnp.where(better, new[best], centre),
            after,
            view.levels,
            jnp.where(sound, view.model.scale * (after.radius / region.radius) ** 2, 0),
            jnp.where(better | at_start[0], 0, jnp.minimum(state.failures + 1, PATIENCE)),
        )
        return finite_or_zero(layout.updates(unraveled(move, layout))), new_state

    return transformation("model_newton", init, step)


class _View(NamedTuple):
    """What is known before a round.

    Attributes:
      points: those in memory, after θ itself.
      model: the model of their values.
      sizes: its eigenvalues.
      levels: how far they are believed.
      fitted: whether there is anything that the model is made of.
    """

    points: jax.Array
    model: Model
    sizes: Sizes
    levels: Levels
    fitted: jax.Array

    @property
    def tau(self) -> jax.Array:
        """The error level τ."""
        return jnp.asarray(taus(), self.points.dtype)[self.levels.tau]

    @property
    def trust(self) -> jax.Array:
        """How far from θ, in radii, minimisers are sought: beyond 1 if the model is exact."""
        return jnp.clip(1e-3 / self.tau, 1, FARTHEST)


def _look(state: ModelNewtonState) -> _View:
    """The model of the values in memory."""
    eps = jnp.finfo(state.level.dtype).eps
    points, values, used = _with_centre(state.points, state.values, state.level)
    # Rounding; the scale of the model to come is not known yet.
    error = eps * jnp.abs(jnp.where(used[0], state.level, 0))
    error = jnp.where(state.scale > 0, error / jnp.where(state.scale > 0, state.scale, 1), 0)
    inside = state.region.inside(points)
    used &= jnp.linalg.norm(inside, axis=1) < FAR
    model, levels = search(inside, values, used, error, state.levels, state.counts.round)
    fitted = used[0] & jnp.any(used[1:]) & jnp.isfinite(model.evidence)
    sizes = Sizes.of(model.hessian, model.curvature)
    return _View(points, model, sizes, levels, fitted)


def _adapted(
    region: Region,
    view: _View,
    first: jax.Array,
    fall: jax.Array,
    moved: jax.Array,
    length: jax.Array,
    pace: float,
) -> Region:
    """The next region, from what the round told; ``changed`` has the rest of the arguments.

    Args:
      region: the last one.
      view: what was known before.
      first: the model's minimiser, which was asked first.
      fall: f(θ) less the value there.
    """
    smallest = jnp.finfo(fall.dtype).tiny
    gain = fall / jnp.maximum(view.model.foretold(first), smallest)
    rate = 1 - (1 - LEARNING) ** pace
    return Region(
        matmul(region.metric, view.sizes.power(-rate / 2, WIDEST)),
        changed(region.radius, moved, length, gain, view.tau < 0.1, pace),
    )


def _resolution(leaves: Leaves, first: Any) -> jax.Array:
    """The least radius: below the parameters' precision all points are one."""
    dtype = scalar_dtype()
    eps = jnp.finfo(dtype).eps
    far = sum(jnp.max(jnp.abs(x), initial=0).astype(dtype) for x in leaves)
    return 4 * eps * (far + eps * first)


def _rounded(moves: jax.Array, leaves: Leaves, layout: Layout) -> jax.Array:
    """Displacements [K, d] from the parameters, as these can hold them."""
    rounded = []
    for x, row in zip(leaves, unraveled(moves, layout), strict=True):
        wide = x.astype(row.dtype)[None]
        rounded.append((wide + row).astype(x.dtype).astype(row.dtype) - wide)
    return raveled(rounded, len(moves))


def _with_centre(
    points: jax.Array, values: jax.Array, centre: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Points with θ as the first, values less f(θ), and which of them are known."""
    points = jnp.concatenate([jnp.zeros_like(points[:1]), points])
    values = jnp.concatenate([centre[None], values])
    used = jnp.isfinite(values) & jnp.isfinite(centre)
    return points, jnp.where(used, values, 0) - jnp.where(used, centre, 0), used


def _nearest(
    points: jax.Array, values: jax.Array, region: Region, num: int
) -> tuple[jax.Array, jax.Array]:
    """The points nearest to θ, which itself is left out: its value is kept as the level."""
    distances = jnp.linalg.norm(region.inside(points), axis=1)
    kept = (distances > 0) & jnp.isfinite(values) & jnp.isfinite(distances)
    order = jnp.argsort(jnp.where(kept, distances, jnp.inf))[:num]
    return jnp.where(kept[order, None], points[order], 0), jnp.where(
        kept[order], values[order], jnp.inf
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class _Points(Wrapper):
    """Given rows [K, d], on the leaves that another family perturbs."""

    directions: Directions
    rows: Any
    joint: ClassVar[bool] = True  # type: ignore[misc]

    def draw(self, key: jax.Array, layout: Layout, num_directions: int, indices: Any) -> Leaves:
        del key, num_directions
        return unraveled(self.rows[indices], layout)


__all__ = ["ModelNewtonState", "model_newton"]
