"""Markdown tables of the interpolated Hessians, a part of the Hessian-error case."""

from typing import Any

from benchmarks.common import report
from benchmarks.hessian_error.interpolation.errors import PAPERS
from benchmarks.hessian_error.tables import number, pick


def tables(part: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of what `benchmarks.hessian_error.interpolation.measure` returns, by name."""
    return {
        "interpolation": errors(part),
        "interpolation_worst": worst(part),
        "interpolation_noise": noise(part),
        "interpolation_exact": exact(part),
        "newton": newton(part),
        "newton_noise": newton_noise(part),
    }


def errors(part: dict[str, Any]) -> str:
    """Medians, at the fewest and the most pairs of every place, at the largest radius there."""
    rows = part["errors"]
    methods = [name for name in part["labels"] if pick(rows, method=name)]
    lines = []
    for problem, d in places(rows):
        mine = pick(rows, problem=problem, dimension=d)
        radius = max(row["radius"] for row in mine)
        counts = [row["num_directions"] for row in mine]
        for count in dict.fromkeys((min(counts), max(counts))):
            cells = [
                pick(mine, radius=radius, num_directions=count, method=name)[0]["median"]
                for name in methods
            ]
            which = (problem, f"{d:,}", f"{radius:g}", count, 2 * count + 1)
            lines.append([*which, *map(number, cells)])
    labels = [part["labels"][name] for name in methods]
    return report.table(["function", "d", "μ", "pairs", "queries", *labels], lines)


def worst(part: dict[str, Any]) -> str:
    """The worst of all pairs, radii and seeds of a place."""
    rows = part["errors"]
    lines = []
    for problem, d in places(rows):
        mine = pick(rows, problem=problem, dimension=d)
        tried = ", ".join(str(n) for n in dict.fromkeys(row["num_directions"] for row in mine))
        ratios = [
            max(row["of_prior"] for row in pick(mine, method=name))
            for name in ("interpolated", "interpolated_auto")
        ]
        lines.append(
            [problem, f"{d:,}", tried, *(f"{x:.4f}" for x in ratios), number(advantage(mine))]
        )
    header = ["function", "d", "pairs", "interpolated / prior", 'with ridge="auto" / prior']
    return report.table([*header, 'best of ZoVH, S3, CD / with ridge="auto"'], lines)


def advantage(rows: list[dict[str, Any]]) -> float:
    """The least factor, over cases, between the papers' best median and the interpolated one."""
    cases = dict.fromkeys((row["num_directions"], row["radius"]) for row in rows)
    factors = []
    for count, radius in cases:
        medians = {
            row["method"]: row["median"] for row in pick(rows, num_directions=count, radius=radius)
        }
        factors.append(min(medians[name] for name in PAPERS) / medians["interpolated_auto"])
    return min(factors)


def noise(part: dict[str, Any]) -> str:
    """Medians at the most pairs; the last column is over all pairs and seeds."""
    rows = part["noise"]
    methods = ("interpolated", "interpolated_auto", "prior", "prior_noiseless", "noise_floor")
    lines = []
    for problem, d in places(rows):
        for level in dict.fromkeys(row["noise"] for row in rows):
            mine = pick(rows, problem=problem, dimension=d, noise=level)
            most = max(row["num_directions"] for row in mine)
            medians = [
                pick(mine, num_directions=most, method=name)[0]["median"] for name in methods
            ]
            ratio = max(row["of_bound"] for row in pick(mine, method="interpolated_auto"))
            lines.append([problem, d, most, f"{level:g}", *map(number, medians), f"{ratio:.3f}"])
    labels = [part["labels"][name] for name in methods]
    header = [
        "function",
        "d",
        "pairs",
        "noise",
        *labels,
        'most of "auto" / (without noise + floor)',
    ]
    return report.table(header, lines)


def exact(part: dict[str, Any]) -> str:
    """The largest error over seeds."""
    rows = part["exact"]
    cases = list(dict.fromkeys((row["dimension"], row["num_directions"]) for row in rows))
    lines = [
        [
            problem,
            *(
                f"{pick(rows, problem=problem, dimension=d, num_directions=n)[0]['most']:.0e}"
                for d, n in cases
            ),
        ]
        for problem in dict.fromkeys(row["problem"] for row in rows)
    ]
    return report.table(["quadratic", *(f"d = {d}, {n} pairs" for d, n in cases)], lines)


def newton(part: dict[str, Any]) -> str:
    """Cosines in double precision without noise: median and least."""
    rows = pick(part["newton"], precision="float64", noise=0.0)
    counts = list(dict.fromkeys(row["num_directions"] for row in rows))
    lines = [
        [label, *(cosine(pick(rows, direction=name, num_directions=n)[0]) for n in counts)]
        for name, label in part["directions"].items()
    ]
    return report.table(["direction", *(f"{n} pairs" for n in counts)], lines)


def newton_noise(part: dict[str, Any]) -> str:
    """Cosines at the most pairs, by precision and noise: median and least."""
    most = max(row["num_directions"] for row in part["newton"])
    rows = pick(part["newton"], num_directions=most)
    cases = list(dict.fromkeys((row["precision"], row["noise"]) for row in rows))
    lines = [
        [
            label,
            *(
                cosine(pick(rows, direction=name, precision=precision, noise=level)[0])
                for precision, level in cases
            ),
        ]
        for name, label in part["directions"].items()
    ]
    header = [f"{precision}, noise {level:g}" for precision, level in cases]
    return report.table([f"direction, {most} pairs", *header], lines)


def cosine(row: dict[str, Any]) -> str:
    """Median and least."""
    return f"{row['median']:.3f} ({row['least']:.3f})"


def places(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """The functions and layers with their dimensions."""
    return list(dict.fromkeys((row["problem"], row["dimension"]) for row in rows))
