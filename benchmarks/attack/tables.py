"""The table of the attack case."""

from typing import Any

from benchmarks.common import report


def tables(result: dict[str, Any]) -> dict[str, str]:
    """``methods``: a row for each method and control."""
    budget = result["setting"]["budget"]

    def count(queries):
        return f"> {budget}" if queries is None else str(queries)

    rows = []
    for entry in result["methods"]:
        q25, median, q75 = (count(q) for q in entry["queries"].values())
        medians = [run["median_queries"] for run in entry["runs"]]
        medians.sort(key=lambda q: budget + 1 if q is None else q)
        row = [entry["label"], report.plain(entry["learning_rate"])]
        row += [f"{entry['successes']} of {entry['attacks']}"]
        row += [
            f"{fooled['share']:.0%}" for fooled in entry["fooled"] if fooled["within"] <= budget
        ]
        row += [median, f"{q25} to {q75}"]
        if len(medians) > 1:
            row += [f"{count(medians[0])} to {count(medians[-1])}"]
        rows.append(row)
    within = [f"≤ {f['within']}" for f in result["methods"][0]["fooled"] if f["within"] <= budget]
    header = ["method", "learning rate", "fooled", *within, "median queries", "quartiles"]
    if len(result["seeds"]) > 1:
        header += [f"medians of {len(result['seeds'])} runs"]
    return {"methods": report.table(header, rows)}
