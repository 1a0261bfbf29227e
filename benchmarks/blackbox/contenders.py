"""The methods: functions (race, seed) that run until the race is over, or they can't go on."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import cma
import evosax.algorithms
import jax
import jax.numpy as jnp
import nevergrad
import numpy as np
import optax
import scipy.optimize
from cma.restricted_gaussian_sampler import GaussVDSampler

import zovh_jax as zo
from benchmarks.blackbox.functions import Over, Race

MOST_DIRECTIONS = 16, 32
"""The most directions in up to 20 dimensions, and in more."""
RADIUS = 1.0
RATE, SPREAD = 0.1, 0.03
"""Adam's rate and the standard deviation of OpenAI-ES: the best of nine on another instance."""
STEPS = {"none": 1e-8, "deterministic": 1e-8, "stochastic": 1e-2}
"""Finite differences' step: without noise SciPy's, with it the best of six on other instances."""
UNIT = 30.0
"""SPSA's unit: the best of five on another instance."""


class Compiled:
    """An optimiser of ours, which calls back for a round's values; compiled once."""

    def __init__(self, factory: Callable[..., Any], dimension: int):
        self.factory, self.num_directions = factory, num_directions(dimension)
        self.race: Race | None = None
        optimizer = self.seeded(0)
        value_fn = zo.from_host(self.values, batched=True, on_error="raise")

        def step(x, state):
            updates, state = optimizer.update(None, state, x, value_fn=value_fn)
            return optax.apply_updates(x, updates), state

        self.step = jax.jit(step)

    def seeded(self, seed: int) -> Any:
        """The optimiser with a key of its own, which only its first state holds."""
        return self.factory(self.num_directions, RADIUS, key=jax.random.key(seed))

    def values(self, points: np.ndarray) -> list[float]:
        """Those of a round."""
        return [self.race(point) for point in points]  # type: ignore[misc]

    def __call__(self, race: Race, seed: int) -> None:
        """Runs it."""
        self.race, x = race, jnp.asarray(race.start)
        state = self.seeded(seed).init(x)
        while not (race.over or race.stuck):
            x, state = jax.block_until_ready(self.step(x, state))


def cma_es(race: Race, seed: int, **more: Any) -> None:
    """CMA-ES by its author."""
    options = {"verbose": -9, "seed": seed + 1, "tolfun": 1e-14, "tolfunhist": 0, "tolx": 1e-15}
    options |= more
    search = cma.CMAEvolutionStrategy(race.start, 2.0, options)
    while not race.over and not search.stop():
        points = search.ask()
        search.tell(points, [race(point) for point in points])


def sep_cma(race: Race, seed: int) -> None:
    """CMA-ES with a diagonal covariance."""
    cma_es(race, seed, CMA_diagonal=True)


def vd_cma(race: Race, seed: int) -> None:
    """CMA-ES with a covariance of a diagonal and rank one."""
    cma_es(race, seed, **GaussVDSampler.extend_cma_options({}))


def cobyqa(race: Race, seed: int) -> None:
    """SciPy's COBYQA: quadratic models by least change, one evaluation after the other."""
    del seed
    options = {"maxfev": race.budget, "initial_tr_radius": RADIUS, "final_tr_radius": 1e-9}
    stopped(
        lambda: scipy.optimize.minimize(race.strictly, race.start, method="COBYQA", options=options)
    )


def newuoa(race: Race, seed: int) -> None:
    """NLopt's NEWUOA: as COBYQA, and Powell's own."""
    import nlopt  # not needed otherwise

    del seed
    search = nlopt.opt(nlopt.LN_NEWUOA, len(race.start))

    def value(x, _):
        found = race(x)
        if race.over:
            search.force_stop()
        return found

    search.set_min_objective(value)
    search.set_initial_step(RADIUS)
    search.set_xtol_abs(1e-9)
    # Errors of its own are ends too: rounding, or noise, stops it.
    with contextlib.suppress(nlopt.ForcedStop, nlopt.RoundoffLimited, RuntimeError):
        search.optimize(race.start)


def finite_differences(race: Race, seed: int) -> None:
    """SciPy's L-BFGS-B, with gradients by forward differences: d + 1 evaluations each."""
    del seed
    options: dict[str, float] = {"maxfun": race.budget, "maxiter": race.budget}
    options |= {"ftol": 0, "gtol": 0}
    options["eps"] = STEPS[race.noise]
    stopped(
        lambda: scipy.optimize.minimize(
            race.strictly, race.start, method="L-BFGS-B", options=options
        )
    )


def spsa(race: Race, seed: int) -> None:
    """nevergrad's SPSA, whose gain suits no function's scale; in units of `UNIT`."""
    start = nevergrad.p.Array(init=race.start).set_mutation(sigma=UNIT)
    start.random_state.seed(seed)
    search = nevergrad.optimizers.SPSA(start, budget=race.budget)
    while not (race.over or race.stuck):
        point = search.ask()
        search.tell(point, race(point.value))


class Evolved:
    """evosax's OpenAI-ES: antithetic pairs, centred ranks, Adam; compiled once."""

    def __init__(self, dimension: int):
        self.algorithm = evosax.algorithms.Open_ES(
            population_size=population(dimension),
            solution=jnp.zeros(dimension),
            optimizer=optax.adam(RATE),
            std_schedule=optax.constant_schedule(SPREAD),
        )
        self.settings = self.algorithm.default_params
        self.ask = jax.jit(lambda *given: self.algorithm.ask(*given, self.settings))
        self.tell = jax.jit(lambda *given: self.algorithm.tell(*given, self.settings)[0])

    def __call__(self, race: Race, seed: int) -> None:
        """Runs it."""
        key = jax.random.key(seed)
        state = self.algorithm.init(key, jnp.asarray(race.start), self.settings)
        while not (race.over or race.stuck):
            key, asks, tells = jax.random.split(key, 3)
            points, state = self.ask(asks, state)
            values = jnp.asarray([race(point) for point in np.asarray(points)])
            state = self.tell(tells, points, values, state)


def stopped(run: Callable[[], Any]) -> None:
    """Runs until the race is over."""
    with contextlib.suppress(Over):
        run()


def num_directions(dimension: int) -> int:
    """K of ours: the largest multiple of 4 up to d, as `zo.diagonal_newton` wants it; in bounds."""
    return min(max(dimension // 4 * 4, 4), MOST_DIRECTIONS[dimension > 20])


def population(dimension: int) -> int:
    """CMA-ES's default."""
    return 4 + int(3 * np.log(dimension))


@functools.cache
def runner(name: str, dimension: int) -> Callable[[Race, int], None]:
    """The method of a name."""
    if name in OURS:
        return Compiled(OURS[name], dimension)
    return Evolved(dimension) if name == "openai_es" else OTHERS[name]


def parallel(name: str, dimension: int) -> int:
    """Evaluations of a round, which can run at the same time."""
    k = num_directions(dimension)
    if name in OURS:
        return {"model_newton": k, "low_rank_newton": 2 * (k + 1)}.get(name, k + 1)
    rounds = {"cobyqa": 1, "newuoa": 1, "spsa": 2, "l_bfgs": dimension + 1}
    return rounds.get(name) or population(dimension)


OURS: dict[str, Callable[..., Any]] = {
    "model_newton": zo.model_newton,
    "quasi_newton": zo.quasi_newton,
    "low_rank_newton": zo.low_rank_newton,
    "diagonal_newton": zo.diagonal_newton,
    "scalar_newton": zo.scalar_newton,
}
OTHERS: dict[str, Callable[[Race, int], None]] = {
    "cma": cma_es,
    "sep_cma": sep_cma,
    "vd_cma": vd_cma,
    "cobyqa": cobyqa,
    "newuoa": newuoa,
    "l_bfgs": finite_differences,
    "spsa": spsa,
}
LABELS = {
    "model_newton": "model Newton",
    "quasi_newton": "quasi-Newton",
    "low_rank_newton": "low-rank Newton",
    "diagonal_newton": "diagonal Newton",
    "scalar_newton": "scalar Newton",
    "cma": "CMA-ES",
    "sep_cma": "sep-CMA-ES",
    "vd_cma": "VD-CMA",
    "cobyqa": "COBYQA",
    "newuoa": "NEWUOA",
    "l_bfgs": "L-BFGS, differences",
    "spsa": "SPSA",
    "openai_es": "OpenAI-ES",
}


def evaluations(race: Race) -> list[int | None]:
    """Those to every target."""
    return [int(n) if np.isfinite(n) else None for n in race.reached]
