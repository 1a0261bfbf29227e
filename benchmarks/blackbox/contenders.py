"""The methods, each a function (race, seed) that runs until the race is over or it has stopped."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import cma
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

import zovh_jax as zo
from benchmarks.blackbox.functions import Over, Race

MOST = 16
RADIUS = 1.0


class Compiled:
    """An optimiser of ours, by ask and tell; compiled once."""

    def __init__(self, factory: Callable[..., Any], dimension: int):
        self.factory, self.num_directions = factory, num_directions(dimension)
        self.optimizer = self.seeded(0)

    def seeded(self, seed: int) -> Any:
        """The optimiser with a key of its own, which only its first state holds."""
        return self.factory(self.num_directions, RADIUS, key=jax.random.key(seed))

    def __call__(self, race: Race, seed: int) -> None:
        """Runs it."""
        x = jnp.asarray(race.start)
        state = self.seeded(seed).init(x)
        while not race.over:
            asked = zo.ask(self.optimizer, state, x)
            values = [race(point) for point in np.asarray(asked.points)]
            updates, state = zo.tell(self.optimizer, state, x, asked, values)
            x = optax.apply_updates(x, updates)


def cma_es(race: Race, seed: int) -> None:
    """CMA-ES by its author."""
    options = {"verbose": -9, "seed": seed + 1, "tolfun": 1e-14, "tolfunhist": 0, "tolx": 1e-15}
    search = cma.CMAEvolutionStrategy(race.start, 2.0, options)
    while not race.over and not search.stop():
        points = search.ask()
        search.tell(points, [race(point) for point in points])


def cobyqa(race: Race, seed: int) -> None:
    """SciPy's COBYQA: quadratic models by least change, one evaluation after the other."""
    del seed
    options = {"maxfev": race.budget, "initial_tr_radius": RADIUS, "final_tr_radius": 1e-9}
    stopped(
        lambda: scipy.optimize.minimize(race.strictly, race.start, method="COBYQA", options=options)
    )


def finite_differences(race: Race, seed: int) -> None:
    """SciPy's L-BFGS-B, with gradients by forward differences: d + 1 evaluations each."""
    del seed
    options = {"maxfun": race.budget, "maxiter": race.budget, "ftol": 0, "gtol": 0}
    stopped(
        lambda: scipy.optimize.minimize(
            race.strictly, race.start, method="L-BFGS-B", options=options
        )
    )


def stopped(run: Callable[[], Any]) -> None:
    """Runs until the race is over."""
    with contextlib.suppress(Over):
        run()


def num_directions(dimension: int) -> int:
    """K of ours: d, at most 16."""
    return min(dimension, MOST)


@functools.cache
def runner(name: str, dimension: int) -> Callable[[Race, int], None]:
    """The method of a name."""
    return Compiled(OURS[name], dimension) if name in OURS else OTHERS[name]


OURS: dict[str, Callable[..., Any]] = {
    "model_newton": zo.model_newton,
    "low_rank_newton": zo.low_rank_newton,
    "diagonal_newton": zo.diagonal_newton,
    "scalar_newton": zo.scalar_newton,
}
OTHERS: dict[str, Callable[[Race, int], None]] = {
    "cma": cma_es,
    "cobyqa": cobyqa,
    "l_bfgs": finite_differences,
}
LABELS = {
    "model_newton": "model Newton",
    "low_rank_newton": "low-rank Newton",
    "diagonal_newton": "diagonal Newton",
    "scalar_newton": "scalar Newton",
    "cma": "CMA-ES",
    "cobyqa": "COBYQA",
    "l_bfgs": "L-BFGS, differences",
}


def evaluations(race: Race) -> list[int | None]:
    """Those to every target."""
    return [int(n) if np.isfinite(n) else None for n in race.reached]
