"""The tables of the laplace case."""

from typing import Any

import numpy as np

from benchmarks.common import report

SHOWN = ("nll", "nll_linearised", "ece", "ece_linearised", "brier", "accuracy", "auroc")


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name."""
    return {
        "tasks": tasks(result["tasks"]),
        "targets": targets(result),
        "divergence": against_queries(result, "divergence"),
        "evidence": against_queries(result, "evidence_gap"),
        "predictions": predictions(result),
    }


def tasks(found: list[dict[str, Any]]) -> str:
    """The sizes of the tasks."""
    header = ["task", "d", "d(d + 1)/2", "examples", "test", "prior's precision"]
    return report.table(
        header,
        [
            [
                task["task"],
                task["dimension"],
                f"{task['entries']:,}",
                task["examples"],
                task["test_examples"],
                " ".join(report.number(alpha) for alpha in task["prior_precisions"]),
            ]
            for task in found
        ],
    )


def targets(result: dict[str, Any]) -> str:
    """Distances from the exact posterior, the worst of all splits, once all entries are told."""
    lines = []
    for task in result["tasks"]:
        rows = [row for row in result["rows"] if row["task"] == task["task"]]
        exact = next(row for row in rows if row["method"] == "exact")
        for name in ("interpolated", "full"):
            mine = [row for row in rows if row["method"] == name]
            told = [row for row in mine if row["queries"] > 2 * task["entries"]]
            if not told:
                continue
            row = told[0]
            nll, ece = (np.asarray(row[key]["each"]) - exact[key]["each"] for key in ("nll", "ece"))
            relative = np.abs(nll / exact["nll"]["each"]).max()
            evidence = np.abs(row["evidence_gap"]["each"]).max()
            cells = [f"{relative:.2%}", f"{np.abs(ece).max():.4f}", report.number(evidence)]
            lines.append([task["task"], task["dimension"], row["label"], row["queries"], *cells])
    header = ["task", "d", "structure", "queries", "NLL", "ECE", "log evidence, nats"]
    return report.table(header, lines)


def against_queries(result: dict[str, Any], field: str) -> str:
    """Medians: tasks and structures down the side, queries across; empty where not run."""
    budgets, lines = result["setting"]["budgets"], []
    asking = [row for row in result["rows"] if row["budget"]]
    for task, label in dict.fromkeys((row["task"], row["label"]) for row in asking):
        found = {
            row["budget"]: report.number(row[field]["median"])
            for row in asking
            if (row["task"], row["label"]) == (task, label)
        }
        lines.append([task, label, *(found.get(budget, "") for budget in budgets)])
    return report.table(["task", "structure", *(f"{b:,}" for b in budgets)], lines)


def predictions(result: dict[str, Any]) -> str:
    """Medians of all scores, each structure with the most queries that it was run with."""
    lines = []
    for task in result["tasks"]:
        rows = [row for row in result["rows"] if row["task"] == task["task"]]
        last = {row["label"]: row for row in rows}  # the rows are in the order of budgets
        for label, row in last.items():
            cells = [f"{row[key]['median']:.3f}" for key in SHOWN]
            lines.append([task["task"], label, f"{row['queries']:,}", *cells])
    header = ["task", "posterior", "queries", "NLL", "linearised", "ECE", "linearised"]
    return report.table([*header, "Brier", "accuracy", "AUROC"], lines)
