"""Every method on the papers' synthetic functions, at equal queries, each at its best rate.

Six experiments, after Fig. 1 and 7 of the ZoVH paper (K = 3, N = 4, μ = λ = 0.1, from a standard
normal start):

- ``functions``: all methods on quadratic, Levy, Rosenbrock and Ackley, d = 10⁴;
- ``long``: the methods of Fig. 1 on the quadratic with the paper's number of queries, 60 000;
- ``curvature``: all methods on quadratics with condition numbers from 10² to 10⁴, axis-aligned and
  rotated, d = 10³, in double precision: in single, the second differences along one parameter
  that ZO-SAH asks for are lost in values of 10⁵;
- ``baselines``: what is subtracted from the values, for a gradient step (N = 1) and for ZoVH;
- ``reuse``: how many rounds ZoAR and ZoVH reuse;
- ``radius``: μ, which the papers set to 0.1: in d = 10⁴ a query is then 10 away from θ.

Each method has its own learning rate for each problem (`benchmarks.tuning`), tuned with the same
number of queries on another seed. All queries are charged, the centre's included. Controls are ZoAR
at the learning rate η/λ of ZoVH: where d is far above the number of directions the two are nearly
the same. All functions are 0 at their least, so that values are regrets.

DIR/synthetic.json:
  environment   versions and machine
  setting       num_directions, radius, damping, history_size
  seeds         of the reported runs; tuning_seeds, of the others
  experiments.NAME:
    dimension, budget (queries of a run)
    start       {problem: f at the start, median over the seeds}
    rows        for each problem and contender:
      problem, method (its name), and what the experiment varies: baseline, history_size, radius
      label, queries_per_step (at most)
      learning_rate, interior (whether rates on both sides are worse), grid: [{rate, score,
                diverged}], where score is the final value, null if the run diverged;
                learning_rate is null and the rest missing for methods that have none;
                a control has a learning_rate only, and ``control``: whose η/λ it is
      queries_spent, diverged (how many runs ended above their start)
      score, final  {median, least, most, each} over the seeds; null: not a number
      curve       {queries, median, least, most}; not where one is varied
"""

import argparse
import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
from tqdm import tqdm

import zovh_jax as zo
from benchmarks import report, tuning
from benchmarks.methods import BASELINES, CONTROLS, METHODS, Method, Setting, gradient, zovh

SEEDS = (0, 1, 2)
FUNCTIONS = {
    "quadratic": zo.problems.quadratic(),
    "levy": zo.problems.levy(),
    "rosenbrock": zo.problems.rosenbrock(),
    "ackley": zo.problems.ackley(),
}


ABLATIONS = ("baselines", "reuse", "radius")
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
    """How much of everything is run."""

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # the common options are all


def run(args: argparse.Namespace) -> None:
    result = experiments(FULL if args.full else QUICK)
    for text in tables(result).values():
        print(f"\n{text}")
    report.write_json(args.out / "synthetic.json", result)
    from benchmarks.synthetic_plot import plot

    plot(result, args.out / "synthetic.png")
    print(f"\nNumbers: {args.out / 'synthetic.json'}\nPicture: {args.out / 'synthetic.png'}")


def experiments(size: Size) -> dict[str, Any]:
    """All of them; the content of the JSON file."""
    setting = Setting()
    return {
        "environment": report.environment(),
        "setting": dataclasses.asdict(setting),
        "seeds": list(SEEDS),
        "tuning_seeds": tuning.tuning_seeds(),
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
        "reuse": (ablated, large, every_history(ablated, size.histories, setting)),
        "radius": (ablated, large, every_radius(ablated, size.radii, setting)),
    }


def curved(conditions: Iterable[float]) -> dict[str, zo.problems.Problem]:
    """Quadratics with eigenvalues from 1 to the condition number, axis-aligned and rotated."""
    problems = {}
    for condition in conditions:
        for kind, options in (
            ("axis-aligned", {}),
            ("rotated", {"rotated": True, "key": jax.random.key(42)}),
        ):
            name = f"condition {condition:.0e}, {kind}".replace("e+0", "e")
            problems[name] = zo.problems.quadratic(condition, **options)
    return problems


def every_method(problems, names, setting) -> list[Contender]:
    return [Contender(p, name, METHODS[name], setting) for p in problems for name in names]


def every_baseline(problems, setting) -> list[Contender]:
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


def every_history(problems, sizes, setting) -> list[Contender]:
    return [
        Contender(
            problem,
            name,
            METHODS[name],
            dataclasses.replace(setting, history_size=size),
            {"history_size": size},
        )
        for problem in problems
        for name in ("zoar", "zovh")
        for size in sizes
    ]


def every_radius(problems, radii, setting) -> list[Contender]:
    return [
        Contender(
            problem,
            name,
            METHODS[name],
            dataclasses.replace(setting, radius=radius),
            {"radius": radius},
        )
        for problem in problems
        for name in OF_RADIUS
        for radius in radii
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


# What is printed, and filled into the README.


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Name → markdown table, from the content of the JSON file."""
    found = {name: part["rows"] for name, part in result["experiments"].items()}
    return {
        "functions": matrix("method", "label", tuned(found["functions"])),
        "long": matrix("method", "label", tuned(found["long"])),
        "curvature": matrix("method", "label", tuned(found["curvature"])),
        "controls": controls(result["experiments"]),
        "baselines": matrix("baseline", "baseline", found["baselines"], "{problem}, {label}"),
        "reuse": matrix("rounds N", "history_size", found["reuse"], "{problem}, {label}"),
        "radius": matrix("method", "label", found["radius"], "{problem}, μ = {radius}"),
        "rates": rates(tuned(found["functions"]) + tuned(found["curvature"])),
    }


def tuned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All but the controls."""
    return [row for row in rows if "control" not in row]


def matrix(title: str, down: str, rows: list[dict[str, Any]], across: str = "{problem}") -> str:
    """Final values: what ``down`` says down the side, what ``across`` says across."""
    names = list(dict.fromkeys(row[down] for row in rows))
    columns = list(dict.fromkeys(across.format(**row) for row in rows))
    found = {(row[down], across.format(**row)): row for row in rows}
    cells = [report.bold_least([found.get((n, c)) for n in names], "final") for c in columns]
    return report.table([title, *columns], list(zip(names, *cells, strict=True)))


def controls(parts: dict[str, Any]) -> str:
    """ZoVH beside ZoAR at η/λ."""
    lines = []
    for part in parts.values():
        where = {(row["problem"], row["method"]): row for row in tuned(part["rows"])}
        for row in part["rows"]:
            if "control" in row:
                zovh = where[row["problem"], row["control"]]
                a, b = zovh["final"]["median"], row["final"]["median"]
                apart = "" if a is None or b is None else f"{100 * (a / b - 1):+.2g} %"
                name = f"{row['problem']}, {part['budget']} queries"
                lines.append([name, zovh["label"], report.number(a), report.number(b), apart])
    return report.table(["problem", "method", "final", "ZoAR at η/λ", "difference"], lines)


def rates(rows: list[dict[str, Any]]) -> str:
    """The learning rates that were chosen."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    labels = list(dict.fromkeys(row["label"] for row in rows))
    found = {(row["label"], row["problem"]): row for row in rows}
    lines = []
    for label in labels:
        chosen = [found[label, problem] for problem in problems]
        if any(row["learning_rate"] is None for row in chosen):
            continue
        marks = ["" if row["interior"] else " (edge)" for row in chosen]
        pairs = zip(chosen, marks, strict=True)
        lines.append([label, *(f"{row['learning_rate']:.2g}{mark}" for row, mark in pairs)])
    return report.table(["learning rate", *problems], lines)


__all__ = ["add_arguments", "run", "tables"]
