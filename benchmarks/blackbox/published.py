"""The best of the 31 algorithms that were measured in 2009 on the same functions, as published.

COCO's post-processing, the package cocopp, has the numbers: for each function, dimension and
target the least expected number of evaluations. The best algorithm differs from target to target:
no single one gets as far. The package is not needed otherwise, and not imported.
"""

import functools
import importlib.util
import tarfile
from pathlib import Path

from benchmarks.blackbox.functions import MOST, TARGETS

ARCHIVE = Path("refalgs", "best2009-bbob.tar.gz")


@functools.cache
def archive() -> Path | None:
    """Where the numbers are; None where cocopp is not installed."""
    found = importlib.util.find_spec("cocopp")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / ARCHIVE


def best_2009(number: int, dimension: int) -> list[float | None] | None:
    """Expected evaluations to every target, None where no algorithm reached it.

    Returns:
      None where cocopp is not installed, and for large-scale functions.
    """
    path = archive()
    if path is None or dimension > MOST:
        return None
    with tarfile.open(path) as files:
        name = f"best2009-bbob/bbob-bestalg_f{number:02d}_d{dimension:02d}.dat"
        lines = files.extractfile(name).read().decode().splitlines()  # type: ignore[union-attr]
    return expected(lines)


def expected(lines: list[str]) -> list[float | None]:
    """The numbers in a file: lines of evaluations, and the target that they reach."""
    reached = [
        (float(target), float(count))
        for count, target, *_ in (line.split() for line in lines if not line.startswith("%"))
    ]
    return [
        min((count for there, count in reached if there <= target * (1 + 1e-9)), default=None)
        for target in TARGETS
    ]
