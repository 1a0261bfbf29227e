"""The methods that the benchmarks compare, by name, each made from a learning rate and a setting.

A method says what a step may cost at most and roughly where its learning rate lies; every query is
charged, the centre's included. Those whose papers take one direction a step do so here, and make
more steps of the same queries. Missing is 2SPSA, whose d×d array and eigenvalues are out of reach.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import optax

import zovh_jax as zo

DIRECTIONS = zo.directions.gaussian(fast=True)
"""The cheaper generator, for all that take Gaussian directions."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the methods share.

    Attributes:
      num_directions: K, of the methods that take several a step.
      radius: μ.
      damping: λ.
      history_size: N, of the methods that reuse queries.
    """

    num_directions: int = 3
    radius: float = 0.1
    damping: float = 0.1
    history_size: int = 4

    def options(self, key: jax.Array) -> dict[str, Any]:
        """The arguments of factories that take K directions a step."""
        return {
            "num_directions": self.num_directions,
            "radius": self.radius,
            "key": key,
            "directions": DIRECTIONS,
        }

    def history(self) -> dict[str, Any]:
        """The arguments that keep N rounds with their directions: a replay costs more on a CPU."""
        return {"history_size": self.history_size, "store_directions": self.history_size > 1}


Scale = Literal["gradient", "damped", "coordinate", "newton", "spread"]


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of a comparison.

    Attributes:
      label: its name in tables and pictures.
      make: the optimiser from a learning rate (it may be traced), a key and a setting.
      queries: the most that a step spends, from the setting.
      scale: what a learning rate multiplies: a gradient, a gradient over the damping, a step of
        each coordinate, a Newton step, or a gradient over the values' spread. It says where the
        grid of learning rates starts.
      output: the method's answer, from the last iterate and the optimiser's state.
      tuned: whether there is a learning rate at all.
    """

    label: str
    make: Callable[[Any, jax.Array, Setting], optax.GradientTransformationExtraArgs]
    queries: Callable[[Setting], int]
    scale: Scale = "gradient"
    output: Callable[[Any, Any], Any] = lambda params, state: params
    tuned: bool = True

    def centre(self, setting: Setting, dimension: int, curvature: float) -> int:
        """The half decade to start from on a problem whose Hessian has about these eigenvalues."""
        # Gradient descent along K of d directions is at its best near K/(d · curvature).
        gradient = setting.num_directions / (dimension * curvature)
        typical = {
            "gradient": gradient,
            "damped": gradient * setting.damping,
            "coordinate": 1e-2,
            "newton": 1.0,
            # The spread is about μ‖∇f‖, and the gradient's estimate √(d/K) times as long as ∇f.
            "spread": 1e-2 * setting.radius * math.sqrt(setting.num_directions),
        }[self.scale]
        return round(2 * math.log10(typical))


Count = Callable[[Setting], int]


def forward(centre: bool) -> Count:
    """K queries a step, and the centre's where it is asked for."""
    return lambda setting: setting.num_directions + centre


def exactly(count: int) -> Count:
    """The same number of queries in every step."""
    return lambda setting: count


def gradient(baseline: zo.baselines.Baseline, label: str, **options) -> Method:
    """Descent along forward differences with this baseline, no reuse."""

    def make(rate, key, setting):
        return zo.zo_sgd(rate, baseline=baseline, **(setting.options(key) | options))

    return Method(label, make, forward(baseline.needs_origin))


PAPERS = {"reuse": zo.reuse.uniform()}
"""Reuse as ZoAR and ZoVH have it."""


def zoar(label: str, history: bool, **options) -> Method:
    """ZoAR, with reuse or without."""

    def make(rate, key, setting):
        kept = setting.history() | PAPERS if history else {"history_size": 1}
        return zo.zoar(rate, **(setting.options(key) | kept | options))

    return Method(label, make, lambda s: options.get("num_directions", s.num_directions))


def zovh(label: str, history: bool, **options) -> Method:
    """ZoVH, with reuse or without."""

    def make(rate, key, setting):
        settings = setting.options(key) | {"damping": setting.damping}
        return zo.zovh(
            rate, **(settings | (setting.history() | PAPERS if history else {}) | options)
        )

    baseline = options.get("baseline", zo.baselines.mean())
    return Method(label, make, forward(baseline.needs_origin), "damped")


def along_one(
    factory: Callable, label: str, queries: int, scale: Scale = "gradient", **options: Any
) -> Method:
    """A method that takes one direction a step."""

    def make(rate, key, setting):
        return factory(rate, radius=setting.radius, key=key, **options)

    return Method(label, make, exactly(queries), scale)


def several(
    factory: Callable, label: str, queries: Count, scale: Scale, history: bool = False, **more
) -> Method:
    """Another method of K directions."""

    def make(rate, key, setting):
        return factory(rate, **setting.options(key), **(setting.history() if history else {}))

    return Method(label, make, queries, scale, **more)


def zoha() -> Method:
    """ZOHA at the setting's damping."""

    def make(rate, key, setting):
        return zo.zoha(rate, damping=setting.damping, **setting.options(key))

    # Its h starts at 1 and is near the damping after a step.
    return Method("ZOHA", make, lambda setting: 2 * setting.num_directions + 1)


def zo_sah(label: str, switch_every: int) -> Method:
    """ZO-SAH on sixteen planes a step; the queries for curvature come with every switch."""
    planes = 16

    def make(rate, key, setting):
        return zo.zo_sah(
            rate, num_subspaces=planes, radius=setting.radius, key=key, switch_every=switch_every
        )

    return Method(label, make, exactly(1 + planes * (2 + 3)), "newton")


def newton(
    factory: Callable,
    label: str,
    num_directions: int | None = None,
    rounds: int = 1,
    noise: Any = 0.0,
    **options: Any,
) -> Method:
    """A method without a learning rate, of so many rounds a step; K is the setting's or its own.

    Where objectives are exact it is told so by a ``noise`` of 0, and asks no query that only noise
    makes necessary.
    """
    more = 0 if noise == 0 else 2

    def count(setting):
        return num_directions or setting.num_directions

    def make(rate, key, setting):
        del rate
        return factory(count(setting), setting.radius, key=key, noise=noise, **options)

    return Method(label, make, lambda s: rounds * (count(s) + 1) + more, "newton", tuned=False)


def fzoo() -> Method:
    """FZOO along its signs; it cannot do with one direction."""

    def make(rate, key, setting):
        return zo.fzoo(rate, **setting.options(key) | {"directions": zo.directions.rademacher()})

    return Method("FZOO", make, forward(True), "spread")


def poem(label: str, **more) -> Method:
    """POEM, whose first step is the setting's radius long."""

    def make(rate, key, setting):
        del rate
        options = setting.options(key) | {"directions": zo.directions.sphere(fast=True)}
        return zo.poem(**options)

    return Method(label, make, lambda s: 2 * s.num_directions, "newton", tuned=False, **more)


ORIGIN = zo.baselines.origin()
FAST: dict[str, Any] = {"directions": DIRECTIONS, "evaluate": zo.evaluators.vmapped()}

METHODS = {
    "zo_sgd": gradient(ORIGIN, "ZO-SGD"),
    "zo_sgd_sphere": gradient(ORIGIN, "ZO-SGD, sphere", directions=zo.directions.sphere(fast=True)),
    "zo_sgd_near": gradient(ORIGIN, "ZO-SGD, μ = 0.001", radius=0.001),
    "zo_sgd_hadamard": gradient(
        ORIGIN, "ZO-SGD, μ = 0.001, Hadamard", radius=0.001, directions=zo.directions.hadamard()
    ),
    "rspg": several(
        zo.rspg,
        "RSPG",
        forward(True),
        "gradient",
        output=lambda params, state: zo.random_iterate(state),
    ),
    "spsa": along_one(zo.spsa, "SPSA", 2),
    "mezo": along_one(zo.mezo, "MeZO", 2, **FAST),
    "zo_signsgd": several(zo.zo_signsgd, "ZO-signSGD", forward(True), "coordinate"),
    "fzoo": fzoo(),
    "zo_adamm": several(zo.zo_adamm, "ZO-AdaMM", forward(True), "coordinate"),
    "radazo": several(zo.radazo, "R-AdaZO", forward(False), "coordinate"),
    "radazo_reuse": several(zo.radazo, "R-AdaZO + reuse", forward(False), "coordinate", True),
    "zoar_1": zoar("ZoAR, N = 1", history=False),
    "zoar": zoar("ZoAR", history=True),
    "zoar_hadamard": zoar("ZoAR, Hadamard", history=True, directions=zo.directions.hadamard()),
    "zoar_hadamard_8": zoar(
        "ZoAR, Hadamard, K = 8, N = 3",
        history=True,
        directions=zo.directions.hadamard(),
        num_directions=8,
        history_size=3,
    ),
    "zovh_1": zovh("ZoVH, N = 1", history=False),
    "zovh": zovh("ZoVH", history=True),
    "zovh_exact": zovh("ZoVH, exact inverse", history=True, solver=zo.solvers.woodbury()),
    "hizoo": along_one(zo.hizoo, "HiZOO", 3, **FAST),
    "hizoo_zovh": along_one(zo.hizoo, "HiZOO, ZoVH's variant", 3, variant="zovh", **FAST),
    "zoha": zoha(),
    "zo_sah": zo_sah("ZO-SAH, T = 20", 20),
    "zo_sah_1": zo_sah("ZO-SAH, T = 1", 1),
    "poem": poem("POEM, last iterate"),
    "poem_average": poem(
        "POEM", output=lambda params, state: optax.tree.get(state, "averaged_iterate")
    ),
    "scalar_newton": newton(zo.scalar_newton, "scalar Newton"),
    "scalar_newton_16": newton(zo.scalar_newton, "scalar Newton, K = 16", 16),
    "diagonal_newton": newton(zo.diagonal_newton, "diagonal Newton, K = 16", 16),
    "low_rank_newton": newton(zo.low_rank_newton, "low-rank Newton, K = 16", 16, rounds=2),
}
NOISY = {
    "scalar_newton_noisy": newton(zo.scalar_newton, "scalar Newton", 16, noise="auto"),
    "diagonal_newton_noisy": newton(zo.diagonal_newton, "diagonal Newton", 16, noise="auto"),
}
"""Those without a learning rate that look for noise, and ask more once they found it."""
CONTROLS = {"zovh_1": "zoar_1", "zovh": "zoar"}
"""ZoVH and what it should be compared with at learning rate η/λ."""

BASELINES = {
    "none": zo.baselines.none(),
    "origin": zo.baselines.origin(),
    "mean": zo.baselines.mean(),
    "leave one out": zo.baselines.leave_one_out(),
    "variance-optimal": zo.baselines.variance_optimal(),
}
