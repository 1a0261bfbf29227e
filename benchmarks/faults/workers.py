"""What processes of a pool run."""

import os
from typing import Any

import numpy as np

DIMENSION = 10
CURVATURES = np.geomspace(1, 10, DIMENSION)


def value(x: np.ndarray) -> float:
    """The objective: a quadratic with condition number 10, which is 0 at ones."""
    return float(0.5 * np.sum(CURVATURES * (np.asarray(x, np.float64) - 1) ** 2))


def die(*args: Any) -> None:
    """Ends its process, as a crash or a lack of memory does."""
    del args
    os._exit(1)
