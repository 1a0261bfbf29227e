"""COCO's functions, and what a run spent on the way to each target."""

import contextlib
import tempfile
from pathlib import Path

import cocoex
import numpy as np

TARGETS = 10.0 ** np.linspace(2, -8, 51)
FALL, PATIENCE = 1e-9, 30
"""A run that doesn't end by itself is stuck once its best value has not fallen by so much in so
many evaluations a dimension."""
MOST = 40
"""The largest dimension of the functions with dense rotations."""
NOISES = "none", "stochastic", "deterministic"
SIZE = 1e-3
"""That of noise, beside the distance from the optimum's value."""
NAMES = {
    1: "sphere",
    2: "ellipsoid, axis-aligned",
    3: "Rastrigin, separable",
    4: "Büche-Rastrigin",
    5: "linear slope",
    6: "attractive sector",
    7: "step ellipsoid",
    8: "Rosenbrock",
    9: "Rosenbrock, rotated",
    10: "ellipsoid, rotated",
    11: "discus",
    12: "bent cigar",
    13: "sharp ridge",
    14: "different powers",
    15: "Rastrigin, rotated",
    16: "Weierstrass",
    17: "Schaffers F7",
    18: "Schaffers F7, condition 1000",
    19: "Griewank-Rosenbrock",
    20: "Schwefel",
    21: "Gallagher, 101 peaks",
    22: "Gallagher, 21 peaks",
    23: "Katsuura",
    24: "Lunacek bi-Rastrigin",
}


def deterministic(x: np.ndarray) -> float:
    """An oscillation between −1 and 1, the "deterministic noise" of Moré and Wild.

    Benchmarking derivative-free optimization algorithms, SIAM J. Optim. 20 (2009), section 4.2: a
    cubic Chebyshev polynomial of waves in x.
    """
    size = np.abs(x)
    wave = 0.9 * np.sin(100 * size.sum()) * np.cos(100 * size.max())
    wave += 0.1 * np.cos(np.linalg.norm(x))
    return float(wave * (4 * wave**2 - 3))


class Over(Exception):
    """The last target is reached, or the budget is spent."""


class Race:
    """A function of COCO's that keeps count, from a start and others after it.

    Args:
      number: the function's, from 1 to 24.
      dimension: 2, 3, 5, 10, 20 or 40; or 80, 160, 320 or 640 of COCO's large-scale functions,
        whose rotations are of blocks, with permutations.
      instance: the function's, from 1.
      budget: evaluations that count.
      noise: of `NOISES`. Methods see the optimum's value and 1 + `SIZE` ξ times the rest, with ξ
        zero, normal and new in every evaluation ("stochastic"), or an oscillation over x
        ("deterministic"). What they reach is counted without it.
    """

    def __init__(
        self, number: int, dimension: int, instance: int, budget: int, noise: str = "none"
    ):
        draws = np.random.default_rng([instance, number, dimension])
        self.noise = noise
        self._error = {
            "none": lambda x: 0.0,
            "stochastic": lambda x: draws.normal(),
            "deterministic": deterministic,
        }[noise]
        name = "bbob" if dimension <= MOST else "bbob-largescale"
        suite = cocoex.Suite(name, f"instances:{instance}", f"dimensions:{dimension}")
        self._suite = suite  # its problems live as long as it does
        self._problem = suite.get_problem_by_function_dimension_instance(
            number, dimension, instance
        )
        # COCO tells where the optimum is in a file, in the folder that it runs in.
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            self._problem._best_parameter("print")
            self.optimum_at = np.loadtxt(next(Path(folder).iterdir()))
        self.optimum = float(self._problem(self.optimum_at))
        self._starts = np.random.default_rng(instance)
        self.budget, self.spent = budget, 0
        self.reached = np.full(len(TARGETS), np.inf)
        self.restart()

    def restart(self) -> None:
        """Draws another start: the best value so far is forgotten, the targets are not."""
        self.start = self._starts.uniform(-4, 4, len(self.optimum_at))
        self._best, self._last_fall = np.inf, self.spent

    @property
    def over(self) -> bool:
        """Whether the rest of the run counts for nothing."""
        return self.spent >= self.budget or bool(np.isfinite(self.reached[-1]))

    @property
    def stuck(self) -> bool:
        """Whether the best value since the start has long not fallen."""
        return self.spent - self._last_fall >= PATIENCE * len(self.start)

    def __call__(self, x: np.ndarray) -> float:
        """The value at x, counted; nothing is after the end."""
        x = np.asarray(x, float)
        value = float(self._problem(x))
        rise = value - self.optimum
        value += SIZE * self._error(x) * rise
        if not self.over:
            self.spent += 1
            hit = (rise <= TARGETS) & np.isinf(self.reached)
            self.reached[hit] = self.spent
            if value < self._best - FALL:
                self._best, self._last_fall = value, self.spent
        return value

    def strictly(self, x: np.ndarray) -> float:
        """The same, for methods that stop at an exception."""
        if self.over:
            raise Over
        return self(x)
