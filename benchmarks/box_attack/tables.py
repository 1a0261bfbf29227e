"""The tables of the box-attack case."""

from typing import Any

from benchmarks.common import report


def tables(result: dict[str, Any]) -> dict[str, str]:
    """``victims``, and for each by its name a row for each contender, the fewest queries first."""
    found = {found["name"]: of_victim(found, result["budget"]) for found in result["victims"]}
    return {"victims": of_victims(result["victims"]), **found}


def of_victims(victims: list[dict[str, Any]]) -> str:
    """What the victims get right, unharmed and under an attack that knows their gradients."""
    rows = []
    for found in victims:
        under = found["under_pgd"]
        row = [found["name"], f"±{found['epsilon']:g}", f"{found['accuracy']:.1%}"]
        row += ["" if under is None else f"{under:.1%}", found["images"], len(found["seeds"])]
        rows.append(row)
    header = ["victim", "box", "held-out digits right", "under projected gradient descent"]
    return report.table([*header, "digits attacked", "seeds"], rows)


def of_victim(found: dict[str, Any], budget: int) -> str:
    """The table of a victim; the least mean number of queries is in bold."""
    entries = sorted(found["methods"], key=lambda entry: entry["mean_queries"])
    rows = []
    for entry in entries:
        mean = f"{entry['mean_queries']:.1f}"
        row = [entry["label"], report.queries(entry["queries"]["median"], budget)]
        row += [f"**{mean}**" if entry is entries[0] else mean]
        row += [f"{f['share']:.0%}" for f in entry["fooled"] if f["within"] <= budget]
        row += [f"{entry['successes']} of {entry['attacks']}"]
        rows.append(row)
    within = [f"≤ {f['within']:,}" for f in entries[0]["fooled"] if f["within"] <= budget]
    return report.table(["attack", "median queries", "mean queries", *within, "fooled"], rows)
