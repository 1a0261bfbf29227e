"""The tables of the box-attack case."""

from typing import Any

from benchmarks.common import report


def tables(result: dict[str, Any]) -> dict[str, str]:
    """A table for each victim, by its name: a row for each contender, the fewest queries first."""
    return {found["name"]: of_victim(found, result["budget"]) for found in result["victims"]}


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
