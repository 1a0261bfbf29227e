"""Tuned runs: what ZoVH's parts are worth, and what an anisotropic policy is worth."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import tuning
from benchmarks.common.functions import FUNCTIONS
from benchmarks.common.methods import BASELINES, Method, Setting, zovh
from benchmarks.common.tuning import SEEDS

SETTING = Setting(num_directions=6)
"""Six directions, so that halves of a round can do without each other."""
POLICIES = Setting(radius=1e-3)
PARTS = {"f(θ)": "origin", "averaged": "mean"}


def ablation(dimension: int, budget: int, functions: tuple[str, ...]) -> list[dict[str, Any]]:
    """ZoVH with either baseline, with reuse and without, and the decoupled product of each."""
    rows = []
    for problem in tqdm(functions, desc="ablation"):
        task = tuning.of_problem(FUNCTIONS[problem], dimension=dimension, budget=budget)
        for history in (False, True):
            for label, baseline in PARTS.items():
                for decoupled in (False, True) if label == "averaged" else (False,):
                    product = "decoupled" if decoupled else "shared"
                    reuse = "N = 4" if history else "N = 1"
                    method = zovh(
                        f"{label}, {product}, {reuse}",
                        history=history,
                        baseline=BASELINES[baseline],
                        decoupled=decoupled,
                    )
                    trial = tuning.Trial(method, SETTING, task)
                    rows.append({"problem": problem} | trial.measure(SEEDS, curve=False))
    return rows


def policies(dimension: int, condition: float, budget: int) -> list[dict[str, Any]]:
    """Descent on an ill-conditioned quadratic along N(θ, μ²I) and N(θ, μ²H⁻¹).

    ``natural`` keeps the preconditioning that comes with scaled directions, which is what CMA-ES's
    covariance does; ``score`` divides it out, which leaves the plain gradient.
    """
    problem = zo.problems.quadratic(condition)
    x = problem.start(dimension)
    scale = 1 / jnp.sqrt(problem.hessian(x).diagonal())
    scale = scale / jnp.sqrt(jnp.mean(scale**2))
    task = tuning.of_problem(problem, dimension=dimension, budget=budget)
    kinds = {
        "isotropic": (jnp.ones(dimension), False),
        "anisotropic, score function": (scale, True),
        "anisotropic, natural gradient": (scale, False),
    }
    rows = []
    for label, (own, plain) in kinds.items():
        trial = tuning.Trial(along(label, own, plain), POLICIES, task)
        rows.append({"problem": f"condition {condition:g}"} | trial.measure(SEEDS, curve=False))
    return rows


def along(label: str, scale: jax.Array, plain: bool) -> Method:
    """Descent along directions scaled by ``scale``, the scale divided out where ``plain``."""

    def make(rate, key, setting):
        directions = zo.directions.scaled(zo.directions.gaussian(), scale)
        estimate = zo.zo_gradient(
            setting.num_directions, setting.radius, key=key, directions=directions
        )
        divide = optax.stateless(lambda updates, _: updates / jnp.square(scale))
        links = [estimate, divide] if plain else [estimate]
        return optax.chain(*links, optax.scale_by_learning_rate(rate))

    return Method(label, make, lambda setting: setting.num_directions)


def facts() -> dict[str, Any]:
    """The settings of both."""
    return {
        "ablation": dataclasses.asdict(SETTING),
        "policies": dataclasses.asdict(POLICIES),
    }
