"""Committed results: the pages quote them to the letter, and their summaries follow from them."""

import json
import re

import numpy as np
import pytest

from benchmarks import readme
from benchmarks.__main__ import CASES, package
from benchmarks.attack import experiment, rates
from benchmarks.attack.plot import from_hex

RESULTS = {
    path.stem: json.loads(path.read_text()) for path in sorted(readme.RESULTS.glob("*.json"))
}
REPORTED = [name for name in RESULTS if name in CASES or name.replace("_", "-") in CASES]
PAGES = {str(path.relative_to(readme.HERE.parent)): path.read_text() for path in readme.PAGES}
FINDINGS = readme.PAGES[0].read_text()


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_say_what_the_results_say(page):
    stale = [
        found[0].splitlines()[0]
        for found in readme.BLOCK.finditer(PAGES[page])
        if readme.filled(found[0]) != found[0]
    ]
    assert not stale, f"{page} disagrees with the results: run python -m benchmarks.readme"


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_left_open(page):
    markers = re.findall(r"<!-- (results|end)\b", PAGES[page])
    assert markers == ["results", "end"] * (len(markers) // 2)
    assert len(readme.BLOCK.findall(PAGES[page])) == len(markers) // 2


def test_every_table_of_findings_comes_from_a_result():
    outside = readme.BLOCK.sub("", FINDINGS)
    assert not [line for line in outside.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("case", REPORTED)
def test_every_result_is_quoted_and_pictured(case):
    assert f"<!-- results: {case} " in FINDINGS
    assert (readme.RESULTS / f"{case}.png").exists()
    assert f"results/{case}.png" in FINDINGS


@pytest.mark.parametrize("case", REPORTED)
def test_every_result_names_its_machine_and_versions(case):
    assert {"python", "jax", "zovh_jax", "cpu", "device"} <= set(RESULTS[case]["environment"])
    documented = package(case).__doc__
    undocumented = [key for key in RESULTS[case] if key not in documented]
    assert not undocumented


def test_a_changed_number_is_noticed():
    block = readme.BLOCK.search(FINDINGS)[0]
    digit = re.search(r"\d(?= \|)", block)
    changed = block[: digit.start()] + str((int(digit[0]) + 1) % 10) + block[digit.end() :]
    assert readme.filled(block) == block
    assert readme.filled(changed) == block


@pytest.mark.parametrize(
    ("block", "message"),
    [("nosuchcase x", "no committed|there is no"), ("attack nosuchtable", "no such table")],
)
def test_a_block_without_a_result_is_an_error(block, message):
    with pytest.raises(ValueError, match=message):
        readme.filled(f"<!-- results: {block} -->\n<!-- end -->")


def test_the_command_rewrites_a_stale_page(tmp_path, monkeypatch, capsys):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- results: attack methods -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(readme, "PAGES", (path,))
    readme.main()
    page = path.read_text()
    assert readme.tables("attack")["methods"] in page
    assert page.startswith("before\n") and page.endswith("\nafter\n") and "old" not in page
    readme.main()
    assert capsys.readouterr().out.split() == [
        f"{path}:",
        "rewritten",
        f"{path}:",
        "up",
        "to",
        "date",
    ]


def test_the_attacks_summaries_follow_from_the_attacks():
    result = RESULTS["attack"]
    for entry in result["methods"]:
        queries, success = np.asarray(entry["queries_spent"]), np.asarray(entry["success"])
        summary = experiment.summary(queries, success, np.asarray(entry["seed"]))
        assert {key: entry[key] for key in summary} == summary
        assert len(queries) == result["images"] * len(result["seeds"])
        assert queries.max() <= result["setting"]["budget"]


def test_the_attacks_picture_is_of_one_of_them():
    result = RESULTS["attack"]
    entries = {entry["method"]: entry for entry in result["methods"] if not entry["control"]}
    picture = result["picture"]
    original = from_hex(picture["pixels"])
    for attack in picture["attacks"]:
        entry, adversarial = entries[attack["method"]], from_hex(attack["adversarial"])
        at = entry["image"].index(picture["image"])
        assert entry["queries_spent"][at] == attack["queries"]
        assert entry["label_true"][at] == picture["label_true"]
        if entry["success"][at]:
            assert attack["predicted"] == (picture["label_true"] + 1) % 10
        # A level of grey is 1/255, and both images are rounded to it.
        assert np.abs(adversarial - original).max() <= result["setting"]["epsilon"] + 2 / 255


def test_the_attacks_used_the_tuned_rates():
    result = RESULTS["attack"]
    names = [entry["method"] for entry in result["methods"] if not entry["control"]]
    found = rates.tuned_rates(readme.RESULTS / "attack_tuning.json", result, names)
    assert found == {
        entry["method"]: entry["learning_rate"]
        for entry in result["methods"]
        if not entry["control"]
    }


def test_the_steps_ratios_follow_from_the_times():
    result = RESULTS["speed"]
    floors = {(p["generator"], p["function"]): p for p in result["pieces"]}
    times = {
        (row["generator"], row["function"], row["step"]): row["microseconds"] / row["queries"]
        for row in result["steps"]
    }
    for row in result["steps"]:
        piece = floors[row["generator"], row["function"]]
        share = row["queries"] / result["settings"]["num_directions"]
        floor = piece["random"] + share * piece["objective"]
        assert row["over_floor"] == pytest.approx(row["microseconds"] / floor)
    for row in result["others"]:
        for generator, ratio in row["query_ratios"].items():
            ours = times[generator, row["function"], row["against"]]
            assert ratio == pytest.approx(row["microseconds"] / row["queries"] / ours)
