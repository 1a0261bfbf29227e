"""What is run: every part is a list of entries, each tuned alike and run on other seeds."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from benchmarks.common import report, tuning
from benchmarks.common.methods import Method, Setting
from benchmarks.common.tuning import SEEDS, Task
from benchmarks.zo_sah import fits, problems
from benchmarks.zo_sah.contenders import (
    CLIP,
    EVERY,
    RSPG,
    RSPG_LAST,
    SCALAR_NEWTON,
    SHARE,
    YARDSTICKS,
    moving,
    sah,
    setting,
)
from benchmarks.zo_sah.network import LARGER, resnet

NUM_TUNING_SEEDS = 2
"""Runs that a learning rate is judged by; one on the network, which takes long."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run.

    Attributes:
      parts: names of `PARTS`.
      starts: how many runs on Rosenbrock's function.
      near, far: queries of a run there: of ZO-SAH; of the others.
      queries: of a run on data or a quadratic, for each parameter.
      dimension: d of the quadratics.
      intervals, shares, clips, dimensions: the values of T, m/d, κ and q.
      network_queries, images: of the network.
      fit_steps: on which fits are compared.
    """

    parts: tuple[str, ...]
    starts: int
    near: int
    far: int
    queries: int
    dimension: int
    intervals: tuple[int, ...]
    shares: tuple[float, ...]
    clips: tuple[float, ...]
    dimensions: tuple[int, ...]
    network_queries: int
    images: int
    fit_steps: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """A method on a problem.

    Attributes:
      problem: its name.
      method, setting, task: what is run.
      facts: what tells this entry from others of its part.
      seeds: of the reported runs.
    """

    problem: str
    method: Method
    setting: Setting
    task: Task
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    seeds: Sequence[int] = SEEDS
    num_tuning_seeds: int = NUM_TUNING_SEEDS

    def row(self, part: str) -> dict[str, Any]:
        """What came of it; curves are kept where they are drawn."""
        measured = tuning.Trial(self.method, self.setting, self.task).measure(
            self.seeds, num_tuning_seeds=self.num_tuning_seeds, curve=part in DRAWN
        )
        about = {"part": part, "problem": self.problem, "budget": self.task.budget}
        sizes = {"dimension": self.task.dimension, "num_directions": self.setting.num_directions}
        return about | sizes | {"radius": self.setting.radius} | self.facts | measured


def rosenbrock(size: Size) -> Iterator[Entry]:
    """Evaluations to the minimum in two dimensions."""
    near = problems.rosenbrock(size.near, size.near // 5)
    far = problems.rosenbrock(size.far, size.far // 40)
    methods: list[tuple[Method, int, Task]] = [
        *((sah(f"ZO-SAH, T = {t}", 1, t), 2, near) for t in (EVERY, 5, 1)),
        (sah("ZO-SAH, T = 20, prior 0", 1, ridge_towards="zero"), 2, near),
        *(
            (dataclasses.replace(method, label=f"{method.label}, K = {k}"), k, far)
            for method, k in ((RSPG_LAST, 2), (RSPG_LAST, 8), (RSPG, 8), (SCALAR_NEWTON, 2))
        ),
    ]
    for method, k, task in methods:
        how = Setting(num_directions=k, radius=1e-3)
        yield Entry("Rosenbrock", method, how, task, seeds=range(size.starts))


def data(size: Size) -> dict[str, Task]:
    """The two logistic regressions."""
    made = {"breast cancer": problems.breast_cancer, "3 against the rest": problems.digit}
    return {name: make(size.queries * make(0).dimension) for name, make in made.items()}


def logistic(size: Size) -> Iterator[Entry]:
    """Losses over queries on data."""
    for name, task in data(size).items():
        planes = moving(task.dimension)
        for method in (sah("ZO-SAH, T = 20", planes), sah("ZO-SAH, T = 1", planes, 1), *YARDSTICKS):
            yield Entry(name, method, setting(task.dimension), task)


def quadratics(size: Size) -> Iterator[Entry]:
    """Queries until a nearly isotropic quadratic is small; the test for isotropy on and off."""
    planes = moving(size.dimension)
    for condition in (2, 3, 100):
        task = problems.quadratic(condition, size.dimension, size.queries * size.dimension)
        methods = [
            sah(f"ZO-SAH, T = {t}{text}", planes, t, isotropy_tolerance=tolerance)
            for t in (EVERY, 1)
            for tolerance, text in ((None, ""), (0.5, ", isotropy to 0.5"))
        ]
        for method in (*methods, RSPG_LAST, SCALAR_NEWTON):
            yield Entry(f"condition {condition}", method, setting(size.dimension), task)


def varying(
    name: str,
    values: Callable[[Size], Sequence[Any]],
    make: Callable[[int, Any], Method],
    num_problems: int = 2,
) -> Callable[[Size], Iterator[Entry]]:
    """A part that varies one option on the data: ``make(d, value)``."""

    def entries(size: Size) -> Iterator[Entry]:
        for problem, task in itertools.islice(data(size).items(), num_problems):
            for value in values(size):
                method = make(task.dimension, value)
                yield Entry(problem, method, setting(task.dimension), task, {name: value})

    return entries


def pairing(size: Size) -> Iterator[Entry]:
    """Guided against random planes, on pairs and on data."""
    tasks = {"blocks of two": problems.blocks(32, size.queries * 32)} | data(size)
    for name, task in tasks.items():
        planes = moving(task.dimension)
        for how in ("random", "coupled"):
            method = sah(f"{how}, T = 5", planes, 5, pairing=how)
            yield Entry(name, method, setting(task.dimension), task)


def network(size: Size) -> Iterator[Entry]:
    """A small residual network."""
    task = resnet(size.network_queries, size.images)
    how = Setting(num_directions=8, radius=1e-2)
    methods = [sah(f"ZO-SAH, T = {t}, m = 64", 32, t) for t in (EVERY, 1)]
    for method in (*methods, RSPG_LAST, SCALAR_NEWTON):
        yield Entry("residual network", method, how, task, num_tuning_seeds=1)


def larger(size: Size) -> Iterator[Entry]:
    """A residual network of twice the channels, four times the pixels, three times the queries."""
    task = resnet(3 * size.network_queries, size.images, LARGER, pixels=14)
    how = Setting(num_directions=8, radius=1e-2)
    for method in (sah("ZO-SAH, T = 5, m = 64", 32, 5), RSPG_LAST, SCALAR_NEWTON):
        yield Entry("larger network", method, how, task, num_tuning_seeds=1)


PARTS: dict[str, Callable[[Size], Iterator[Entry]]] = {
    "rosenbrock": rosenbrock,
    "logistic": logistic,
    "quadratics": quadratics,
    "T": varying(
        "T", lambda size: size.intervals, lambda d, t: sah(f"T = {t}", moving(d), switch_every=t)
    ),
    "m/d": varying(
        "m/d", lambda size: size.shares, lambda d, share: sah(f"m/d = {share}", moving(d, share))
    ),
    "κ": varying(
        "κ", lambda size: size.clips, lambda d, clip: sah(f"κ = {clip}", moving(d), clip=clip), 1
    ),
    "q": varying(
        "q",
        lambda size: size.dimensions,
        lambda d, q: sah(f"q = {q}", moving(d, dimension=q), dimension=q),
    ),
    "pairing": pairing,
    "network": network,
    "larger": larger,
}
DRAWN = ("logistic", "network", "larger")
"""Parts whose curves are drawn."""
FULL = Size(
    parts=tuple(PARTS),
    starts=11,
    near=2_000,
    far=100_000,
    queries=100,
    dimension=64,
    intervals=(1, 5, 10, 20, 50, 100),
    shares=(0.1, 0.2, 0.3, 0.5),
    clips=(0.01, 0.05, 0.1, 0.2, 0.5),
    dimensions=(2, 3, 4, 8),
    network_queries=1_000,
    images=128,
    fit_steps=200,
)
QUICK = dataclasses.replace(
    FULL,
    parts=("rosenbrock", "logistic", "T"),
    starts=3,
    near=1_000,
    far=10_000,
    queries=40,
    intervals=(1, 20),
    fit_steps=60,
)


def measured(size: Size, parts: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of some parts."""
    entries = [(part, entry) for part in parts for entry in PARTS[part](size)]
    return [entry.row(part) for part, entry in tqdm(entries, desc="zo-sah")]


def measure(size: Size) -> dict[str, Any]:
    """The content of the JSON file."""
    rows = measured(size, size.parts)
    return {
        "environment": report.environment(),
        "settings": {"T": EVERY, "m/d": SHARE, "κ": CLIP},
        "seeds": list(SEEDS),
        "starts": size.starts,
        "tuning_seeds": tuning.tuning_seeds(NUM_TUNING_SEEDS),
        "target": problems.TARGET,
        "fraction": problems.FRACTION,
        "rows": rows,
        "fits": fits.compared(data(size), size.fit_steps),
    }
