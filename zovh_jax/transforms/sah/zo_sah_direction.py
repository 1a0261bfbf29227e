"""Newton steps in small disjoint subspaces, as an optax transformation: what ZO-SAH is made of.

Source: ZO-SAH, arXiv 2507.06125. Queries per step, with J subspaces of q dimensions: 1 + J·q, and
J·q(q+1)/2 more in the steps that switch subspaces (the first, then every 20th by default).

Choices of this implementation: a subspace is q parameters, not q random orthogonal vectors. The
points queried beyond the forward ones are −μe_a and μ(e_a + e_b), the fewest that determine a
quadratic. Each step's values are fitted up to a constant of its own. Gradients are central
differences where −μe_a is asked, and elsewhere forward differences less μ/2 times the fitted
curvature. The fit knows that the other subspaces move too, see `fit_hessians`.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax._tree import Layout, scalar_dtype
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
from zovh_jax.transforms.sah.couplings import no_couplings, remember
from zovh_jax.transforms.sah.fit import Seen, clipped_solve, fit_hessians, gradients_of
from zovh_jax.transforms.sah.groups import (
    Ask,
    asking_curvature,
    forward_points,
    points_around,
    read,
    slopes_of,
    write,
)
from zovh_jax.transforms.sah.isotropy import (
    Isotropy,
    Measured,
    Moments,
    measure_unless_isotropic,
    no_moments,
)
from zovh_jax.transforms.sah.joint import shortening
from zovh_jax.transforms.sah.settings import Now, Settings, precision_of

REUSED = 2
"""Preceding steps in the same subspaces whose values a fit uses again."""


class SAHState(NamedTuple):
    """State of `zo_sah_direction`.

    Attributes:
      counts: of queries and rounds, and the key.
      coordinates: [J, q], the present subspaces: flat indices over all leaves.
      past: the two preceding steps in them.
      hessians: [J, q, q], the last fits.
      priors: [J, q, q], what the next fits pull to while the subspaces stay.
      isotropy: what is known of the spread of curvature; empty without ``isotropy_tolerance``.
      couplings: the strongest couplings met so far; empty for ``pairing="random"``.
      known: [J], the subspaces whose curvature is known; the others rest.
      shortening: how many times shorter the last step was than the subspaces' Newton steps.
    """

    counts: ZerothOrderState
    coordinates: jax.Array
    past: Seen
    hessians: jax.Array
    priors: jax.Array
    isotropy: Any
    couplings: Any
    known: jax.Array
    shortening: jax.Array

    @property
    def compares_rounds(self) -> bool:
        """Values of one round are compared with those of another one."""
        return True


def zo_sah_direction(
    num_subspaces: int,
    radius: Schedule,
    *,
    key: jax.Array,
    curvature_radius: Schedule | None = None,
    switch_every: int = 20,
    clip: Schedule = 0.1,
    ridge: Schedule = 0.3,
    ridge_towards: Literal["previous", "zero"] = "previous",
    subspace_dimension: int = 2,
    isotropy_tolerance: Schedule | None = None,
    num_probes: int = 1,
    pairing: Literal["random", "coupled"] = "random",
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """Replaces the incoming updates by Σ_j P_jᵀ |H_j|⁻¹ g_j over disjoint coordinate subspaces.

    Each of J subspaces is q parameters, drawn at random and kept for ``switch_every`` steps; P_j
    maps all parameters to those of subspace j.
    A step that draws new ones queries θ ± μe_a and θ + μ(e_a + e_b) in each of them, as many
    values as a quadratic has coefficients: H_j is that quadratic's, and g_j are central
    differences. The other steps query θ + μe_a only. Their H_j is fitted, by regularised least
    squares, to their values and to those of the two preceding steps in the same subspaces. Their
    g_j is the forward differences less μ/2 times the fitted curvatures, which is their bias.
    |H_j| has H_j's eigenvectors and eigenvalues max(|λ|, clip). The updates of parameters in no
    subspace are zero.

    Between switches, other subspaces move too, and what this changes in g_j looks like curvature
    of subspace j. So the fit has unknowns for it. With one subspace there are none, and H_j
    follows the function as it changes. With many, the values tell little of H_j, which stays near
    that of the last switch: on a convex quadratic, its error is at most ‖H_j‖. How much the
    subspaces' moves add up is seen in the gradients of two steps: if the curvature along the last
    move is c > 1 times what all H_j say, the step is divided by c (at most 4·J).

    Args:
      num_subspaces: J (m/2 in the paper, m being the number of parameters that move); J·q must
        not be above the number of parameters.
      radius: μ, or a schedule.
      key: ``jax.random.key(seed)``.
      curvature_radius: μ in the steps that draw new subspaces, or a schedule. Curvatures are
        differences of values over μ², which rounding spoils at radii where slopes are still good.
        None takes the fourth root of the rounding error ε of the coarsest dtype of the
        parameters, halved (0.009 for float32, 6e-5 for float64), but not less than the radius and
        not more than ten times that. This suits values and parameters around 1.
      switch_every: T, steps between switches.
      clip: κ, the least curvature that is believed, or a schedule. Steps are at most g/κ.
      ridge: weight of ‖H_j − prior‖² in the fits between switches, relative to that of a slope's
        squared error when distances are in units of the largest one fitted; or a schedule. The
        default takes three quarters of a change along the last step, and little from steps that
        are nearly parallel or much shorter than μ. Fits whose prior is zero, as at switches, use
        at most 1e-6.
      ridge_towards: "previous": with one subspace the prior is the previous fit, with several the
        fit of the last switch. "zero", nearer to the paper: the prior is zero, which with
        ``clip`` means a step g/κ along what is not determined, and the fit takes other
        subspaces' moves for curvature.
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
      ``chunked(1)``, two for each query of a round with ``vmapped()``. A subspace with a
      value that is not finite does not move in this step. If it has just been drawn, its curvature
      is unknown, and it rests until the next ones are drawn: in the next step, if most rest.

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
      >>> bool(jnp.allclose(direction, x, atol=1e-3))  # H⁻¹∇f = x
      True
    """
    settings = Settings(
        num_subspaces=num_subspaces,
        dimension=subspace_dimension,
        radius=radius,
        curvature_radius=curvature_radius,
        switch_every=switch_every,
        clip=clip,
        ridge=ridge,
        ridge_towards=ridge_towards,
        isotropy_tolerance=isotropy_tolerance,
        num_probes=num_probes,
        pairing=pairing,
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
        return _init(settings, rounds.init(params), rounds.layout(params))

    def step(updates, state, params, value_fn, value):
        del updates
        direction, state = _step(settings, rounds, state, params, value_fn, value)
        return finite_or_zero(direction), state

    return transformation("zo_sah_direction", init, step)


def _init(settings: Settings, counts: ZerothOrderState, layout: Layout) -> SAHState:
    settings.check(layout)
    j, q, dtype = settings.num_subspaces, settings.dimension, scalar_dtype()
    past = Seen(
        jnp.full((REUSED, j, len(settings.points)), jnp.nan, dtype),
        jnp.zeros((REUSED, j, q), dtype),
        jnp.zeros(REUSED, dtype),
    )
    return SAHState(
        counts,
        jnp.zeros((j, q), jnp.int32),
        past,
        jnp.zeros((j, q, q), dtype),
        jnp.zeros((j, q, q), dtype),
        Isotropy(no_moments(), jnp.zeros((), bool)) if settings.tests_isotropy else (),
        no_couplings(4 * j) if settings.pairs else (),
        jnp.zeros(j, bool),
        jnp.ones((), dtype),
    )


def _step(
    settings: Settings,
    rounds: Rounds,
    state: SAHState,
    params: PyTree,
    value_fn: ValueFn,
    value: Any,
) -> tuple[PyTree, SAHState]:
    layout, count = rounds.layout(params), state.counts.count
    precision = precision_of(layout)
    now = settings.at(count, precision, state.known)
    key = jax.random.fold_in(state.counts.key, state.counts.round)
    coordinates = settings.subspaces(now, key, layout.size, state.coordinates, state.couplings)
    # The curvature queries are further calls, in branches of their own: traced at the first only.
    traced_once = jax.jit(value_fn)

    directions = points_around(coordinates, forward_points(settings.dimension))
    queries, _, counts = dataclasses.replace(rounds, directions=directions, radius=now.radius).step(
        state.counts, params, traced_once, value
    )
    f0 = queries.origin
    assert f0 is not None
    forward_slopes = slopes_of(queries.values, f0, now.radius, settings.num_subspaces)
    ask = asking_curvature(
        traced_once,
        params,
        key,
        coordinates,
        origin=f0,
        radius=now.radius,
        evaluate=rounds.evaluate,
    )
    measured = _measured(settings, now, count, state.isotropy, forward_slopes, ask)

    slopes = jnp.concatenate([forward_slopes, measured.slopes], -1)
    centres = read(layout.leaves(params, "params"), layout, coordinates)
    seen = _seen(Seen(slopes, centres, now.radius), state.past, now.switches)
    rounding = precision * jnp.abs(f0) / now.radius
    known = jnp.where(now.switches, jnp.all(jnp.isfinite(slopes), -1), state.known)
    hessians = _fitted(settings, now, seen, state.priors, rounding)
    hessians = jnp.where(known[:, None, None], hessians, 0)
    couplings = state.couplings
    if settings.pairs:  # from fresh values only
        couplings = jax.lax.cond(
            now.switches,
            lambda: remember(
                state.couplings, jnp.where(known[:, None], coordinates, -1), hessians, now.clip
            ),
            lambda: state.couplings,
        )
    if settings.tests_isotropy:
        mean = measured.isotropy.moments.mean * jnp.eye(settings.dimension, dtype=hessians.dtype)
        hessians = jnp.where(measured.isotropy.holds, mean[None], hessians)
        known = known | measured.isotropy.holds

    usable = known & jnp.all(jnp.isfinite(forward_slopes), -1)
    gradients = jnp.where(usable[:, None], gradients_of(slopes, hessians, now.radius), 0)
    shorter = shortening(seen, hessians, now.clip, rounding, state.shortening)
    direction = clipped_solve(hessians, gradients, now.clip) / shorter
    counts = counts._replace(
        num_queries=saturating_add(counts.num_queries, measured.spent),
        num_nonfinite=saturating_add(counts.num_nonfinite, measured.nonfinite),
    )
    follows = settings.num_subspaces == 1 or now.switches
    return layout.updates(write(direction, layout, coordinates)), SAHState(
        counts,
        coordinates,
        Seen(*(steps[:REUSED] for steps in seen)),
        hessians,
        jnp.where(follows, hessians, state.priors),
        measured.isotropy,
        couplings,
        known,
        shorter,
    )


def _measured(
    settings: Settings,
    now: Now,
    count: jax.Array,
    isotropy: Any,
    forward_slopes: jax.Array,
    ask: Ask,
) -> Measured:
    """The slopes at the curvature points, asked for where the step switches."""
    num_points = len(settings.points) - settings.dimension

    def measure():
        if not settings.tests_isotropy:
            slopes, spent, bad = ask(slice(None))
            return Measured(slopes, (), spent, bad)
        tolerance = scheduled(settings.isotropy_tolerance, count)
        add = functools.partial(_with_moments, settings, now, forward_slopes)
        sizes = settings.num_subspaces, settings.num_probes
        return measure_unless_isotropic(ask, add, isotropy, tolerance, *sizes)

    def go_without():
        none = jnp.full((settings.num_subspaces, num_points), jnp.nan, forward_slopes.dtype)
        return Measured(none, isotropy, *(jnp.zeros((), jnp.int32) for _ in range(2)))

    return jax.lax.cond(now.switches, measure, go_without)


def _with_moments(
    settings: Settings,
    now: Now,
    forward_slopes: jax.Array,
    moments: Moments,
    slopes: jax.Array,
    which: slice,
) -> Moments:
    """The moments with those of the subspaces ``which``, fitted to this step's slopes alone."""
    slopes = jnp.concatenate([forward_slopes[which], slopes], -1)
    num_groups, q = len(slopes), settings.dimension
    centres = jnp.zeros((1, num_groups, q), slopes.dtype)  # a single step's don't matter
    seen = Seen(slopes[None], centres, now.radius[None])
    prior = jnp.zeros((num_groups, q, q), slopes.dtype)
    fits = fit_hessians(seen, settings.points, prior, ridge=now.small_ridge)
    return moments.add(fits, jnp.all(jnp.isfinite(slopes), -1))


def _seen(step: Seen, past: Seen, switches: jax.Array) -> Seen:
    """This step before the past ones; after a switch, those were elsewhere and are unknown."""
    past = Seen(
        jnp.where(switches, jnp.nan, past.slopes),
        jnp.where(switches, step.centres, past.centres),
        past.radii,
    )
    return Seen(*(jnp.concatenate([x[None], xs]) for x, xs in zip(step, past, strict=True)))


def _fitted(
    settings: Settings, now: Now, seen: Seen, priors: jax.Array, rounding: jax.Array
) -> jax.Array:
    """The Hessians of this step."""
    if settings.ridge_towards == "zero":
        prior = jnp.zeros_like(priors)
        return fit_hessians(seen, settings.points, prior, ridge=now.small_ridge)
    return fit_hessians(
        seen,
        settings.points,
        jnp.where(now.switches, 0, priors),
        ridge=jnp.where(now.switches, now.small_ridge, now.ridge),
        scales=jnp.maximum(jnp.linalg.norm(priors, axis=(1, 2)), now.clip),
        rounding=jnp.where(now.switches, 0, rounding),
    )


__all__ = ["zo_sah_direction"]
