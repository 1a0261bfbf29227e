"""The six experiments: what each varies, and its runs."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import tuning
from benchmarks.common.functions import FUNCTIONS
from benchmarks.common.methods import BASELINES, CONTROLS, METHODS, Method, Setting, gradient, zovh
from benchmarks.common.tuning import SEEDS

ABLATIONS = ("baselines", "reuse", "radius")
REUSING = ("zoar", "zovh")
OF_RADIUS = ("zo_sgd", "mezo", "zoar_1", "zoar", "zovh")
PAPERS = ("zo_sgd", "zoar_1", "zoar", "zovh_1", "zovh", "hizoo")
"""What Fig. 1 of the ZoVH paper compares."""
LATER = (
    "zo_sgd_near",
    "zo_sgd_hadamard",
    "zoar_hadamard",
    "scalar_newton",
    "scalar_newton_16",
)
"""What came after it."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run."""

    dimension: int
    budget: int
    long_budget: int
    curvature_dimension: int
    curvature_budget: int
    conditions: tuple[float, ...]
    methods: tuple[str, ...]
    long_methods: tuple[str, ...]
    functions: tuple[str, ...]
    ablated: tuple[str, ...]
    histories: tuple[int, ...]
    radii: tuple[float, ...]
    checkpoints: int


FULL = Size(
    dimension=10_000,
    budget=10_000,
    long_budget=60_000,
    curvature_dimension=1_000,
    curvature_budget=10_000,
    conditions=(1e2, 1e4),
    methods=tuple(METHODS),
    long_methods=(*PAPERS, *LATER),
    functions=tuple(FUNCTIONS),
    ablated=("quadratic", "rosenbrock"),
    histories=(1, 2, 4, 8),
    radii=(0.1, 0.01, 0.001),
    checkpoints=30,
)
QUICK = Size(
    dimension=1_000,
    budget=3_000,
    long_budget=9_000,
    curvature_dimension=200,
    curvature_budget=3_000,
    conditions=(1e3,),
    methods=("zo_sgd", "zoar", "zovh", "scalar_newton"),
    long_methods=("zoar", "zovh", "scalar_newton"),
    functions=("quadratic", "rosenbrock"),
    ablated=("quadratic",),
    histories=(1, 4),
    radii=(0.001,),
    checkpoints=20,
)


@dataclasses.dataclass(frozen=True)
class Contender:
    """A row: a method in a setting on a problem."""

    problem: str
    name: str
    method: Method
    setting: Setting
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def measure(size: Size) -> dict[str, Any]:
    """The content of the JSON file: the results of all experiments."""
    return {
        **tuning.facts(Setting()),
        "experiments": {name: experiment(name, *what) for name, what in plan(size).items()},
    }


def plan(size: Size) -> dict[str, tuple[dict, dict, list[Contender]]]:
    """For each experiment its problems, their size, and the contenders."""
    functions = {name: FUNCTIONS[name] for name in size.functions}
    ablated = {name: FUNCTIONS[name] for name in size.ablated}
    longest = {name: FUNCTIONS[name] for name in size.ablated[:1]}
    quadratics = curved(size.conditions)
    setting = Setting()
    large = {"dimension": size.dimension, "budget": size.budget, "checkpoints": size.checkpoints}
    large["double"] = False
    longer = large | {"budget": size.long_budget}
    small = {"dimension": size.curvature_dimension, "budget": size.curvature_budget}
    small = large | small | {"double": True}
    return {
        "functions": (functions, large, every_method(functions, size.methods, setting)),
        "long": (longest, longer, every_method(longest, size.long_methods, setting)),
        "curvature": (quadratics, small, every_method(quadratics, size.methods, setting)),
        "baselines": (ablated, large, every_baseline(ablated, setting)),
        "reuse": (
            ablated,
            large,
            every_value(ablated, REUSING, "history_size", size.histories, setting),
        ),
        "radius": (ablated, large, every_value(ablated, OF_RADIUS, "radius", size.radii, setting)),
    }


def curved(conditions: Iterable[float]) -> dict[str, zo.problems.Problem]:
    """Quadratics with eigenvalues from 1 to the condition number, axis-aligned and rotated."""
    problems: dict[str, zo.problems.Problem] = {}
    for condition in conditions:
        name = f"condition {condition:.0e}".replace("e+0", "e")
        problems[f"{name}, axis-aligned"] = zo.problems.quadratic(condition)
        problems[f"{name}, rotated"] = zo.problems.quadratic(
            condition, rotated=True, key=jax.random.key(42)
        )
    return problems


def every_method(problems, names, setting) -> list[Contender]:
    """Contenders for each problem and method."""
    return [Contender(p, name, METHODS[name], setting) for p in problems for name in names]


def every_baseline(problems, setting) -> list[Contender]:
    """Contenders for each problem, baseline, and method that subtracts it."""
    kinds = {
        "gradient": lambda b: gradient(b, "gradient, N = 1"),
        "zovh": lambda b: zovh("ZoVH", history=True, baseline=b),
    }
    return [
        Contender(problem, kind, make(baseline), setting, {"baseline": name})
        for problem in problems
        for kind, make in kinds.items()
        for name, baseline in BASELINES.items()
    ]


def every_value(problems, names, field: str, values, setting) -> list[Contender]:
    """Contenders for each problem, method and value of one field of the setting."""
    return [
        Contender(
            problem,
            name,
            METHODS[name],
            dataclasses.replace(setting, **{field: value}),
            {field: value},
        )
        for problem in problems
        for name in names
        for value in values
    ]


def experiment(
    name: str, problems: dict[str, Any], size: dict[str, int], contenders: list[Contender]
) -> dict[str, Any]:
    """Tunes and runs all contenders, and where methods are compared, ZoVH's controls."""
    size = dict(size)
    with jax.enable_x64(size.pop("double")):
        rows = [
            row
            for problem, f in problems.items()
            for row in on_problem(
                f"{name}, {problem}",
                tuning.of_problem(f, **size),
                [who for who in contenders if who.problem == problem],
            )
        ]
    start = {row["problem"]: row["curve"]["median"][0] for row in rows}
    for row in rows:
        if name in ABLATIONS:
            del row["curve"]
    return {"dimension": size["dimension"], "budget": size["budget"], "start": start, "rows": rows}


def on_problem(title: str, task: tuning.Task, contenders: list[Contender]) -> list[dict[str, Any]]:
    """The rows of a problem; a control comes after the row it belongs to."""
    rows = []
    trials: dict[tuple[str, Setting], tuning.Trial] = {}
    for who in tqdm(contenders, desc=title):
        trial = tuning.Trial(who.method, who.setting, task)
        trials[who.name, who.setting] = trial
        row = {"problem": who.problem, "method": who.name, **who.facts} | trial.measure(SEEDS)
        rows.append(row)
        control = trials.get((CONTROLS.get(who.name, ""), who.setting))
        if control and not who.facts:
            rate = tuning.tidy(row["learning_rate"] / who.setting.damping)
            row = {"problem": who.problem, "method": CONTROLS[who.name], "control": who.name}
            rows.append(row | control.measure(SEEDS, learning_rate=rate))
    return rows
