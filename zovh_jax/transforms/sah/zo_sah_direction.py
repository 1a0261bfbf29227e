"""Newton steps in small disjoint subspaces, as an optax transformation: what ZO-SAH is made of.

Source: ZO-SAH, arXiv 2507.06125. Queries per step, with J subspaces of q dimensions: 1 + J·q, and
J·q(q+1)/2 more in the steps that switch subspaces (the first, then every 20th by default).

Choices of this implementation: a subspace is q parameters, not q random orthogonal vectors. The
points queried beyond the forward ones are −μe_a and μ(e_a + e_b), the fewest that determine a
quadratic. Each step's values are fitted up to a constant of its own, since in between the other
subspaces moved too. The ridge pulls to the previous fit, as otherwise ``clip`` decides about what
the reused values don't determine.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax import _checks
from zovh_jax._tree import Layout, layout_of, scalar_dtype
from zovh_jax._types import PyTree, Schedule, ValueFn
from zovh_jax.baselines import origin
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.transforms._rounds import (
    Rounds,
    ZerothOrderState,
    finite_or_zero,
    saturating_add,
    scheduled,
    transformation,
)
from zovh_jax.transforms.sah.couplings import couple, no_couplings, remember
from zovh_jax.transforms.sah.fit import Steps, clipped_solve, fit_hessians
from zovh_jax.transforms.sah.groups import (
    asking_curvature,
    curvature_points,
    forward_points,
    points_around,
    random_groups,
    read,
    slopes_of,
    write,
)
from zovh_jax.transforms.sah.isotropy import (
    Isotropy,
    Measured,
    measure_unless_isotropic,
    no_moments,
)

REUSED = 2
"""Preceding steps in the same subspaces whose values a fit uses again."""


class SAHState(NamedTuple):
    """State of `zo_sah_direction`.

    Attributes:
      rounds: the counts and the key.
      coordinates: [J, q], the present subspaces: flat indices over all leaves.
      past: the two preceding steps in them.
      hessians: [J, q, q], the last fits.
      isotropy: what is known of the spread of curvature; empty without ``isotropy_tolerance``.
      couplings: the strongest couplings met so far; empty for ``pairing="random"``.
    """

    rounds: ZerothOrderState
    coordinates: jax.Array
    past: Steps
    hessians: jax.Array
    isotropy: Any
    couplings: Any


def zo_sah_direction(
    num_subspaces: int,
    radius: Schedule,
    *,
    key: jax.Array,
    switch_every: int = 20,
    clip: Schedule = 0.1,
    ridge: Schedule = 1e-6,
    ridge_towards: Literal["previous", "zero"] = "previous",
    subspace_dimension: int = 2,
    isotropy_tolerance: Schedule | None = None,
    num_probes: int = 1,
    pairing: Literal["random", "coupled"] = "random",
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """Replaces the incoming updates by Σ_j P_jᵀ |H_j|⁻¹ g_j over disjoint coordinate subspaces.

    Each of J subspaces is q parameters, drawn at random and kept for ``switch_every`` steps.
    g_j: forward differences along its axes. H_j: second-order coefficients of a quadratic, fitted
    by regularised least squares to the values of this step and of the two preceding ones in the
    same subspaces; after a switch, when there are none, it also queries −μe_a and μ(e_a + e_b),
    which makes as many values as the quadratic has coefficients. |H_j| has H_j's eigenvectors and
    eigenvalues max(|λ|, clip). The other parameters' updates are zero.

    Args:
      num_subspaces: J (m/2 in the paper, m being the number of parameters that move); J·q must
        not be above the number of parameters.
      radius: μ, or a schedule. Curvatures are differences of values over μ²: in float32 take it
        large enough, 1e-2 or more for values and parameters around 1.
      key: ``jax.random.key(seed)``.
      switch_every: T, steps between switches.
      clip: κ, the least curvature that is believed, or a schedule. Steps are at most g/κ.
      ridge: weight of ‖H_j − prior‖² in the fit, relative to that of a slope's squared error when
        distances are in units of the largest one fitted; or a schedule. What the values don't
        determine, as curvature across steps that went along a line, is left at the prior.
      ridge_towards: the prior between switches: the "previous" fit, or "zero", which with ``clip``
        means a step g/κ along what is not determined. After a switch it is zero.
      subspace_dimension: q; the paper's is 2.
      isotropy_tolerance: None, or the spread (standard deviation over mean of |λ| over all
        subspaces) up to which curvature counts as the same everywhere. A switch then measures
        ``num_probes`` subspaces first; if the spread of what is known is within the tolerance,
        the others' curvature queries are saved and steps until the next switch are first order,
        g over the mean curvature. Older measurements count half at each switch; the first switch
        measures everything.
      num_probes: how many subspaces that test measures.
      pairing: "random", or "coupled": remembers the 4·J pairs of parameters of the strongest
        |H_ab|/√(|H_aa||H_bb|) met so far, and at a switch, with that as probability, puts a
        remembered partner next to a parameter that was drawn.
      evaluate: ``vmapped()``, or ``chunked(size)`` to save memory.

    Returns:
      A transformation that emits an ascent direction. Queries: 1 + J·q a step (``value=f(params)``
      saves one), J·q(q+1)/2 more after a switch, fewer where isotropy saves them (the count in the
      state is what was spent). Under ``jax.vmap`` over states both sides of such a choice are
      evaluated. State: O(J·q²) scalars; memory for a step: two copies of the parameters with
      ``chunked(1)``, two for each query of a round with ``vmapped()``. A subspace with a forward
      value that is not finite rests; others that are not finite are left out of the fit.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them; at ``init`` for more
      coordinates than parameters; at ``update`` for a missing ``value_fn`` or ``params``.

    Source: ZO-SAH (arXiv 2507.06125).

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: x[0] ** 2 + 3 * x[0] * x[1] + 4 * x[1] ** 2, jnp.array([1.0, -2.0])
      >>> newton = zo.zo_sah_direction(1, 0.1, key=jax.random.key(0))
      >>> update = jax.jit(lambda state, x: newton.update(None, state, x, value_fn=f))
      >>> direction, _ = update(newton.init(x), x)
      >>> bool(jnp.allclose(direction, x, atol=0.1))  # H⁻¹∇f = x, up to forward differences
      True
    """
    settings = _Settings(
        num_subspaces,
        switch_every,
        clip,
        ridge,
        ridge_towards,
        subspace_dimension,
        isotropy_tolerance,
        num_probes,
        pairing,
    )
    rounds = Rounds(
        num_directions=settings.num_coordinates,
        radius=radius,
        key=key,
        directions=points_around(jnp.zeros((1, 1), jnp.int32), forward_points(1)),
        baseline=origin(),
        evaluate=evaluate,
    )

    def init(params):
        return settings.init(params, rounds.init(params))

    def step(updates, state, params, value_fn, value):
        del updates
        direction, state = _step(settings, rounds, state, params, value_fn, value)
        return finite_or_zero(direction), state

    return transformation("zo_sah_direction", init, step)


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The settings that `Rounds` does not know; checked when it is made."""

    num_subspaces: int
    switch_every: int
    clip: Schedule
    ridge: Schedule
    ridge_towards: str
    dimension: int
    isotropy_tolerance: Schedule | None
    num_probes: int
    pairing: str

    def __post_init__(self):
        _checks.positive_int("num_subspaces", self.num_subspaces)
        _checks.positive_int("switch_every", self.switch_every)
        _checks.positive_int("subspace_dimension", self.dimension)
        _checks.positive_int("num_probes", self.num_probes)
        _checks.positive("clip", self.clip, schedule=True)
        _checks.positive("ridge", self.ridge, schedule=True)
        if self.isotropy_tolerance is not None:
            _checks.positive("isotropy_tolerance", self.isotropy_tolerance, schedule=True)
        for name, allowed in (
            ("ridge_towards", ("previous", "zero")),
            ("pairing", ("random", "coupled")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}.")

    @property
    def num_coordinates(self) -> int:
        return self.num_subspaces * self.dimension

    @property
    def points(self) -> np.ndarray:
        """What a step after a switch queries in each subspace; other steps, the first q only."""
        return np.concatenate([forward_points(self.dimension), curvature_points(self.dimension)])

    def init(self, params: PyTree, rounds: ZerothOrderState) -> SAHState:
        j, q, dtype = self.num_subspaces, self.dimension, scalar_dtype()
        layout = layout_of(params)
        if 0 < layout.size < self.num_coordinates:  # optax looks at init with an empty tree
            raise ValueError(
                f"num_subspaces={j} disjoint subspaces of subspace_dimension={q} need {j * q} "
                f"parameters, and params has {layout.size}: lower either."
            )
        past = Steps(
            jnp.full((REUSED, j, len(self.points)), jnp.nan, dtype),
            jnp.zeros((REUSED, j, q), dtype),
            jnp.zeros(REUSED, dtype),
        )
        tests = self.isotropy_tolerance is not None
        return SAHState(
            rounds,
            jnp.zeros((j, q), jnp.int32),
            past,
            jnp.zeros((j, q, q), dtype),
            Isotropy(no_moments(), jnp.zeros((), bool)) if tests else (),
            no_couplings(4 * j) if self.pairing == "coupled" else (),
        )

    def switch(self, key: jax.Array, layout: Layout, couplings: Any) -> jax.Array:
        """New subspaces."""
        draw_key, couple_key = jax.random.split(key)
        groups = random_groups(draw_key, layout.size, self.num_subspaces, self.dimension)
        return couple(couple_key, groups, couplings) if self.pairing == "coupled" else groups


def _step(
    settings: _Settings,
    rounds: Rounds,
    state: SAHState,
    params: PyTree,
    value_fn: ValueFn,
    value: Any,
) -> tuple[PyTree, SAHState]:
    layout, count = layout_of(params), state.rounds.count
    clip, ridge = scheduled(settings.clip, count), scheduled(settings.ridge, count)
    key = jax.random.fold_in(state.rounds.key, count)
    switches = count % settings.switch_every == 0
    coordinates = jax.lax.cond(
        switches,
        lambda: settings.switch(key, layout, state.couplings),
        lambda: state.coordinates,
    )
    # The curvature queries are further calls, in branches of their own: traced at the first only.
    traced_once = jax.jit(value_fn)

    directions = points_around(coordinates, forward_points(settings.dimension))
    queries, _, counts = dataclasses.replace(rounds, directions=directions).step(
        state.rounds, params, traced_once, value
    )
    radius, f0 = queries.radius, queries.origin
    assert f0 is not None
    gradients = slopes_of(queries.values, f0, radius, settings.num_subspaces)
    centres = read(jax.tree.leaves(params), layout, coordinates)

    ask_curvature = asking_curvature(
        traced_once,
        params,
        key,
        coordinates,
        origin=f0,
        radius=radius,
        evaluate=rounds.evaluate,
    )

    def measure() -> Measured:
        if settings.isotropy_tolerance is None:
            slopes, spent, bad = ask_curvature(slice(None))
            return Measured(slopes, (), spent, bad)
        return measure_unless_isotropic(
            ask_curvature,
            with_moments_of,
            state.isotropy,
            scheduled(settings.isotropy_tolerance, count),
            settings.num_subspaces,
            settings.num_probes,
        )

    def with_moments_of(moments, slopes, which):
        """With the fits of what this step alone measured."""
        slopes = jnp.concatenate([gradients[which], slopes], -1)
        step = Steps(slopes[None], centres[which][None], radius[None])
        fits = fit_hessians(step, settings.points, ridge, jnp.zeros_like(state.hessians[which]))
        return moments.add(fits, jnp.all(jnp.isfinite(slopes), -1))

    def go_without() -> Measured:
        none = jnp.full_like(state.past.slopes[0, :, settings.dimension :], jnp.nan)
        return Measured(none, state.isotropy, *(jnp.zeros((), jnp.int32) for _ in range(2)))

    measured = jax.lax.cond(switches, measure, go_without)
    slopes = jnp.concatenate([gradients, measured.slopes], -1)
    past = state.past._replace(slopes=jnp.where(switches, jnp.nan, state.past.slopes))
    now = Steps(slopes, centres, radius)
    steps = Steps(*(jnp.concatenate([x[None], xs]) for x, xs in zip(now, past, strict=True)))
    fresh = switches | (settings.ridge_towards == "zero")
    prior = jnp.where(fresh, 0, state.hessians)
    hessians = fit_hessians(steps, settings.points, ridge, prior)
    couplings = state.couplings
    if settings.pairing == "coupled":  # from fresh values: reused ones see other subspaces' moves
        couplings = jax.lax.cond(
            switches,
            lambda: remember(state.couplings, coordinates, hessians, clip),
            lambda: state.couplings,
        )
    if settings.isotropy_tolerance is not None:
        mean = measured.isotropy.moments.mean * jnp.eye(settings.dimension, dtype=hessians.dtype)
        hessians = jnp.where(measured.isotropy.holds, mean[None], hessians)

    usable = jnp.all(jnp.isfinite(gradients), -1, keepdims=True)
    direction = clipped_solve(hessians, jnp.where(usable, gradients, 0), clip)
    counts = counts._replace(
        num_queries=saturating_add(counts.num_queries, measured.spent),
        num_nonfinite=saturating_add(counts.num_nonfinite, measured.nonfinite),
    )
    remembered = Steps(*(xs[:REUSED] for xs in steps))
    return layout.updates(write(direction, layout, coordinates)), SAHState(
        counts, coordinates, remembered, hessians, measured.isotropy, couplings
    )


__all__ = ["zo_sah_direction"]
