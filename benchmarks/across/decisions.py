"""What to choose: each advice with the measurements behind it."""

import math
from typing import Any

from benchmarks.across import Read, grouped, least, median, ours
from benchmarks.blackbox.tables import expected, most_parameters
from benchmarks.common import report
from benchmarks.stochastic.tables import compared, ratio, split

NEAR = 1.3
"""What is called near the best tuned method."""
GAMES = "diagonal_newton"
"""What is advised for games."""
SOME, BENT = 40, (8, 9, 12)
"""Parameters, and COCO's numbers of functions: valleys that bend."""


def tables(read: Read) -> dict[str, str]:
    """Markdown tables by name: "all", the advice."""
    lines = [
        [where, take, f"{of(read(case))} ([`{case}`](benchmarks/{case}.md))"]
        for where, take, case, of in DECISIONS
    ]
    return {"all": report.table(["what you have", "take", "because"], lines, left=3)}


def derivatives(result: dict[str, Any]) -> str:
    """How often Adam on true gradients ends far below the best from values."""
    rows = [row for part in result["parts"].values() for row in part["rows"]]
    times = []
    for found in grouped(rows, "problem", "batch").values():
        known = [row for row in found if row["kind"] == "derivatives"]
        if known:
            values = least((row for row in found if row["kind"] != "derivatives"), "final")
            times.append(median(values, "final") / median(known[0], "final"))
    far = sum(t > NEAR for t in times)
    return (
        f"at equal costs the best method from values ends above {NEAR} times Adam on true "
        f"gradients in {far} of {len(times)} settings"
    )


def blackbox(result: dict[str, Any]) -> str:
    """Runs that arrive in the most dimensions, of the best three kinds of methods."""
    shares = {}
    most, rows = most_parameters(result)
    for label, own in grouped(rows, "label").items():
        arrived = [run[-1] is not None for row in own for run in row["instances"]]
        shares[label] = round(100 * sum(arrived) / len(arrived))
    rivals = {label: share for label, share in shares.items() if "Newton" not in label}
    mine = shares["model Newton"]
    second = " and ".join(f"{share} % of {label}" for label, share in _largest(rivals, 2))
    return f"{mine} % of runs on COCO's functions of {most} parameters arrive, against {second}"


def valleys(result: dict[str, Any]) -> str:
    """Expected evaluations of `quasi_newton` and of L-BFGS on differences in bent valleys."""
    shown = []
    for number in BENT:
        rows = {
            row["method"]: row
            for row in result["rows"]
            if (row["noise"], row["dimension"], row["number"]) == ("none", SOME, number)
        }
        mine, theirs = (expected(rows[name], -1) for name in ("quasi_newton", "l_bfgs"))
        counts = ["none" if math.isinf(n) else f"{n:,.0f}" for n in (mine, theirs)]
        shown.append(f"{rows['l_bfgs']['function']}: {' against '.join(counts)}")
    return f"evaluations, {SOME} parameters, against L-BFGS on differences: {'; '.join(shown)}"


def _largest(counts: dict[str, int], number: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])[:number]


def no_rate(result: dict[str, Any]) -> str:
    """On how many functions `scalar_newton` ends below every tuned peer."""
    wins, found = 0, grouped(result["functions"]["rows"], "problem")
    for rows in found.values():
        mine = next(row for row in rows if row["method"] == "scalar_newton_16")
        peer = least((row for row in rows if not ours(row)), "final")
        wins += median(mine, "final") < median(peer, "final")
    dimension = f"{result['functions']['dimension']:,}".replace(",", " ")
    return (
        f"with K = 16 it ends below every tuned method on {wins} of {len(found)} functions of "
        f"{dimension} parameters"
    )


def diagonal(result: dict[str, Any]) -> str:
    """Queries of `diagonal_newton` and of the best tuned peer."""
    return _gap(result, "condition 1e3, axis-aligned", "diagonal_newton")


def low_rank(result: dict[str, Any]) -> str:
    """Queries of `low_rank_newton` and of the best tuned peer."""
    return _gap(result, "10 eigenvalues up to 1e4", "low_rank_newton")


def _gap(result: dict[str, Any], problem: str, method: str) -> str:
    rows = grouped(result["gap"]["rows"], "problem")[problem]
    mine = next(row for row in rows if row["method"] == method)
    peer = least((row for row in rows if not ours(row)), "score")
    counts = [f"{median(row, 'score'):,.0f}" for row in (mine, peer)]
    return f"{counts[0]} queries against {counts[1]} of the best tuned method: {problem}"


def batches(result: dict[str, Any]) -> str:
    """In how many settings they are near the best tuned method."""
    losses, _ = split(result)
    found = [pair for rows in losses.values() for pair in compared(rows).values()]
    counts = []
    for method in ("diagonal_newton", "scalar_newton"):
        of = [ratio(by[method], best) for by, best in found if method in by]
        counts.append(f"{sum(r is not None and r <= NEAR for r in of)} of {len(of)}")
    return f"within {NEAR} times the best tuned method in {' and '.join(counts)} settings"


def games(result: dict[str, Any]) -> str:
    """Pendulum's returns by radius: those of what is advised, and of the best rival."""
    parts = [part for name, part in result["parts"].items() if name.startswith("pendulum")]
    parts = sorted(parts, key=lambda part: part["setting"]["radius"])
    radii = [f"{part['setting']['radius']:g}" for part in parts]
    mine, best = [], []
    for part in parts:
        returns = {row["method"]: row["test"]["median"] for row in part["rows"]}
        mine.append(report.number(returns[GAMES]))
        rivals = [row["method"] for row in part["rows"] if row["learning_rate"] is not None]
        best.append(report.number(max(returns[name] for name in rivals)))
    return (
        f"return on Pendulum with a radius of {', '.join(radii)}: {', '.join(mine)}; the best "
        f"tuned rival's {', '.join(best)}"
    )


def flat(result: dict[str, Any]) -> str:
    """The fewest queries of an attack, and ZoVH's."""
    rows = [row for row in result["methods"] if not row["control"]]
    best = min(rows, key=lambda row: (-row["successes"], median(row, "queries")))
    papers = next(row for row in rows if row["label"] == "ZoVH")
    newton = next(row for row in rows if "scalar Newton" in row["label"])
    return (
        f"{best['label']} fools a classifier in {median(best, 'queries'):,.0f} queries, ZoVH in "
        f"{median(papers, 'queries'):,.0f}; scalar Newton fails in "
        f"{newton['attacks'] - newton['successes']} of {newton['attacks']}"
    )


def network(result: dict[str, Any]) -> str:
    """Memory and time of a step on a CPU, along factored directions, full ones and one by one."""
    rows = grouped(result["costs"]["cpu"]["rows"], "num_directions", "batch")
    small, large = ({row["program"]: row for row in rows[size]} for size in (min(rows), max(rows)))
    factored, full, one = (
        large[name]["temporaries"] for name in ("ZoAR, factored signs", "ZoAR, Gaussian", "MeZO")
    )
    slower = small["ZoAR, factored signs"]["throughput"] / small["MeZO"]["throughput"]
    return (
        f"{full / factored:.1f} times less memory than full directions at {max(rows)[1]} sentences "
        f"a query, and {full / one:.1f} times with `zo.mezo`, whose sentences take {slower:.1f} "
        f"times as long at {min(rows)[1]}; a forward of MiniLM teaches as much with either"
    )


def moving(result: dict[str, Any]) -> str:
    """Tracking errors without a rate, with the default of `zoar` and without reuse."""
    fast = sorted(grouped(result["rows"], "speed"))[-2]
    rows = [row for row in result["rows"] if row["speed"] == fast]
    alone = next(row for row in rows if row["label"] == "ZoAR, N = 1")
    levels = least((row for row in rows if row["rule"] == "levels"), "score")
    newton = next(row for row in rows if row["label"] == "scalar Newton")
    shown = [report.number(median(row, "score")) for row in (newton, levels, alone)]
    return (
        f"distance from a bowl of speed {fast:g}: {shown[0]}; ZoAR, tuned, {shown[1]}, and "
        f"without reuse {shown[2]}"
    )


def posterior(result: dict[str, Any]) -> str:
    """The worst divergence of the full Hessian, in nats."""
    rows = [row for row in result["rows"] if row["method"] == "full"]
    worst = max(median(row, "divergence") for row in rows)
    return f"at most {report.number(worst)} nats from the exact Hessian's posterior"


DECISIONS = (
    (
        "derivatives that you can trust",
        "`jax.grad`, not this library",
        "stochastic",
        derivatives,
    ),
    (
        "up to some tens of parameters, exact values, such as a simulator's",
        "`zo.model_newton`",
        "blackbox",
        blackbox,
    ),
    (
        "some tens of parameters and more, smooth and exact values, valleys that bend",
        "`zo.quasi_newton`",
        "blackbox",
        valleys,
    ),
    (
        "more parameters, exact values, no idea of a learning rate",
        "`zo.scalar_newton`",
        "newton",
        no_rate,
    ),
    ("parameters of very different scales", "`zo.diagonal_newton`", "newton", diagonal),
    ("a few dominant directions", "`zo.low_rank_newton`", "newton", low_rank),
    (
        "batches, no idea of a learning rate",
        "`zo.diagonal_newton` or `zo.scalar_newton`",
        "stochastic",
        batches,
    ),
    (
        "a rate that you can tune; flat or kinked objectives; batches of one to eight",
        "`zo.zoar` along `zo.directions.hadamard()`",
        "attack",
        flat,
    ),
    (
        "returns of games",
        "`zo.diagonal_newton`, its radius as large as the weights that matter",
        "stochastic",
        games,
    ),
    (
        "a network too large for copies",
        "`zo.zo_gradient` or `zo.zoar` along `zo.directions.hadamard(factored=True)`",
        "finetune",
        network,
    ),
    (
        "an objective that moves",
        "`zo.scalar_newton`; of tuned ones `zo.zoar`, several rounds",
        "drift",
        moving,
    ),
    (
        "a fit, and the question how sure it is",
        "`zo.laplace` with `zo.structures.full()`, where d(d + 1)/2 pairs can be afforded",
        "laplace",
        posterior,
    ),
)
"""Where, what to take, the case that shows it, and what it shows."""
