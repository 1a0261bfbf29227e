"""The attack case: what is charged, what the attacker can see, what the files hold."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import attack
from benchmarks.__main__ import main
from benchmarks.attack import attacker, experiment, plot, rates
from benchmarks.attack.attacker import Setting
from benchmarks.common import report, victim
from benchmarks.common.methods import METHODS

TINY = victim.Settings(channels=(2, 4), hidden=8, epochs=1, train_size=640)
TABLES = json.loads(attack.TUNING.read_text())
EVERY_METHOD = [name for name in (*attack.GUESSES, "zoar_1") if "sah" not in name]
ROUNDS = {"hizoo": 3, "zoar_hadamard_8": 9, "scalar_newton_16": 17}
"""Queries of a round, the check included; otherwise 4."""
KINDS = ("zo_sgd", "zovh", "scalar_newton_16")
"""One of each kind."""

pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tiny(cache):
    return victim.load(cache, TINY)


def jobs_for(tiny, count, rate=0.1):
    rows = attacker.attackable(tiny, slice(None), count)
    return attacker.make_jobs(tiny, rows, np.zeros(count, int), np.full(count, rate))


def test_the_margin_is_negative_exactly_where_the_target_wins():
    logits = jax.random.normal(jax.random.key(0), (500, 10))
    targets = jax.random.randint(jax.random.key(1), (500,), 0, 10)
    margins = jax.vmap(attacker.margin)(logits, targets)
    fooled = jnp.argmax(logits, axis=-1) == targets
    assert 20 < fooled.sum() < 480
    np.testing.assert_array_equal(margins < 0, fooled)


def test_what_is_sent_stays_in_the_box_and_in_the_range():
    image = jax.random.uniform(jax.random.key(0), (28, 28))
    delta = 5 * jax.random.normal(jax.random.key(1), (28, 28))
    sent = attacker.perturbed(image, delta, 0.3)
    assert jnp.max(jnp.abs(sent - image)) <= 0.3 + 1e-6
    assert sent.min() >= 0 and sent.max() <= 1
    np.testing.assert_array_equal(attacker.perturbed(image, 0 * delta, 0.3), image)


def test_the_victim_refuses_to_be_differentiated(tiny):
    value_fn = attacker.objective(tiny.logits, tiny.images[0], 3, 0.3)
    delta = jnp.zeros((28, 28))
    assert np.isfinite(jax.jit(value_fn)(delta))
    for differentiate in (jax.grad(value_fn), jax.hessian(value_fn), jax.jit(jax.grad(value_fn))):
        with pytest.raises(TypeError, match="function values only"):
            differentiate(delta)


def test_the_victim_answers_alike_whatever_the_batching(tiny):
    images = tiny.images[:6]
    one = jax.jit(tiny.logits)
    alone = np.stack([one(image) for image in images])
    nested = jax.vmap(jax.vmap(tiny.logits))(images.reshape(2, 3, 28, 28))
    np.testing.assert_allclose(jax.vmap(tiny.logits)(images), alone, atol=1e-5)
    np.testing.assert_allclose(nested.reshape(6, 10), alone, atol=1e-5)


def test_the_cache_is_used_for_the_same_settings_only(tiny, cache, monkeypatch):
    def trained(*args):
        raise AssertionError("trained")

    monkeypatch.setattr(victim, "train", trained)
    again = victim.load(cache, TINY)
    np.testing.assert_array_equal(again.predictions, tiny.predictions)
    with pytest.raises(AssertionError, match="trained"):
        victim.load(cache, dataclasses.replace(TINY, epochs=2))


def test_a_damaged_victim_is_trained_again(cache, capsys, monkeypatch):
    def trained(settings, images, labels):
        network = victim.CNN(settings.channels, settings.hidden)
        return network.init(jax.random.key(settings.seed), jnp.zeros((1, 28, 28)))

    monkeypatch.setattr(victim, "train", trained)
    # Another network on the same digits: for another seed they are read again, for seconds.
    again = victim.load(cache, dataclasses.replace(TINY, hidden=9))
    (path,) = cache.glob(f"*{again.settings.digest()}*")
    path.write_bytes(path.read_bytes()[:-7])
    capsys.readouterr()
    mended = victim.load(cache, again.settings)
    assert [str(path) in line for line in capsys.readouterr().out.splitlines()] == [True]
    np.testing.assert_array_equal(mended.predictions, again.predictions)


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=[] if m in KINDS else [pytest.mark.slow]) for m in EVERY_METHOD],
)
def test_every_query_is_charged(method):
    asked = []

    def logits(image):
        # Weighed, as some directions have as many pixels up as others.
        total = jnp.vdot(image, jnp.linspace(0, 1, image.size).reshape(image.shape) ** 2)
        jax.debug.callback(lambda total: asked.append(float(total)), total)
        return jnp.zeros(10).at[0].set(1 + image.mean())  # never the target

    image = np.full((1, 28, 28), 0.5, np.float32)
    keys = jax.random.split(jax.random.key(0), 1)
    jobs = attacker.Jobs(image, np.array([1]), np.array([0.1]), keys)
    # The most and what is really spent: a method that wants f(δ) has it from the check.
    most, spent = Setting().queries_a_round(method), ROUNDS.get(method, 4)
    setting = Setting(budget=most + attacker.CHUNK * spent - 1)  # no room for one round more
    outcome = attacker.run_attacks(method, logits, jobs, setting)
    jax.effects_barrier()
    assert not outcome.success[0]
    assert most - 1 <= spent <= most
    assert outcome.queries[0] == len(asked) == attacker.CHUNK * spent
    assert len(set(asked)) == len(asked)  # and none of them was known already
    np.testing.assert_array_equal(outcome.checked[0], 1 + spent * np.arange(attacker.CHUNK))


def test_queries_that_vary_by_the_step_are_charged_as_they_come(tiny):
    outcome = attacker.run_attacks(
        "zo_sah", tiny.logits, jobs_for(tiny, 2, 1e-6), Setting(budget=400)
    )
    planes, first = np.diff(outcome.checked[0, :3]), Setting().queries_a_round("zo_sah")
    assert first // 3 < planes[1] < planes[0] <= first
    assert (outcome.queries <= 400).all()
    assert (np.diff(outcome.checked) >= 0).all()


def test_a_budget_below_a_round_is_refused(tiny):
    with pytest.raises(ValueError, match="budget must pay for a round of zoar, 4 queries, got 3"):
        attacker.run_attacks("zoar", tiny.logits, jobs_for(tiny, 2), Setting(budget=3))


@pytest.mark.parametrize(
    ("method", "rate"), [pytest.param("zo_sgd", 1.0, marks=pytest.mark.slow), ("zovh", 0.1)]
)
def test_an_attack_stops_at_its_first_success(method, rate, tiny):
    setting = Setting(epsilon=1.0, budget=200)
    jobs = jobs_for(tiny, 20, rate)
    outcome = attacker.run_attacks(method, tiny.logits, jobs, setting)
    assert outcome.success.any()
    negative = outcome.margins < 0
    np.testing.assert_array_equal(outcome.success, negative.any(axis=1))
    rounds = (200 - setting.queries_a_round(method)) // 4 + 1
    first = np.where(negative.any(axis=1), negative.argmax(axis=1), rounds)
    np.testing.assert_array_equal(outcome.queries, 4 * first + outcome.success)
    for row in np.flatnonzero(outcome.success):
        sent = attacker.perturbed(jobs.image[row], outcome.delta[row], setting.epsilon)
        assert jnp.argmax(tiny.logits(sent)) == jobs.target[row]
        np.testing.assert_array_equal(outcome.margins[row, first[row] :], outcome.margins[row, -1])


@pytest.mark.parametrize("epsilon", TABLES["epsilon"])
def test_the_tuned_rates_are_inside_their_grids(epsilon):
    table = TABLES["epsilon"][epsilon]
    assert set(attack.QUICK) <= set(table["methods"]) <= set(METHODS)
    for entry in table["methods"].values():
        tried = [line["rate"] for line in entry["grid"]]
        best = min(entry["grid"], key=lambda line: line["mean_queries"])
        assert tried == sorted(tried)
        assert tried[0] < entry["chosen"] < tried[-1]
        assert best["mean_queries"] == entry["grid"][tried.index(entry["chosen"])]["mean_queries"]
        assert {line["attacks"] for line in entry["grid"]} == {table["images"]}


def facts_of(tiny, **changes):
    setting = dataclasses.asdict(Setting(**changes))
    return {"setting": setting, "victim": dataclasses.asdict(tiny.settings)}


def test_every_method_has_a_rate_for_the_default_attack():
    default = {
        "setting": dataclasses.asdict(Setting()),
        "victim": TABLES["epsilon"]["0.3"]["victim"],
    }
    assert list(rates.tuned_rates(attack.TUNING, default, attack.GUESSES)) == list(attack.GUESSES)


@pytest.fixture
def tuned(tiny, tmp_path):
    """A table tuned for the tiny victim, by fiat."""
    path = tmp_path / "tuning.json"
    for name in (*attack.QUICK, "zo_sah"):
        entry = {"chosen": 0.01 if "zovh" in name else 0.1, "grid": []}
        rates.keep_rates(path, facts_of(tiny), 2, name, entry)
    return path


def test_rates_tuned_for_other_attacks_are_refused(tiny, tuned):
    found = rates.tuned_rates(tuned, facts_of(tiny, budget=100), ["zoar"])  # budgets may differ
    assert found == {"zoar": 0.1}
    for change in ({"radius": 0.2}, {"num_directions": 5}):
        (name,) = change
        with pytest.raises(ValueError, match=f"other attacks .*{name}.*--tune"):
            rates.tuned_rates(tuned, facts_of(tiny, **change), ["zoar"])
    other = facts_of(tiny)
    other["victim"] = dataclasses.asdict(dataclasses.replace(tiny.settings, hidden=9))
    with pytest.raises(ValueError, match=r"other attacks \(hidden=8, now 9\).*--tune"):
        rates.tuned_rates(tuned, other, ["zoar"])
    with pytest.raises(ValueError, match="no learning rates for hizoo"):
        rates.tuned_rates(tuned, facts_of(tiny), ["zoar", "hizoo"])


def test_a_bad_table_of_rates_is_named_and_made_again(tiny, tuned, capsys):
    for bad in ("", "{", "[]", "{}"):
        tuned.write_text(bad)
        with pytest.raises(ValueError, match=r"tuning\.json is not a table.*--tune"):
            rates.tuned_rates(tuned, facts_of(tiny), ["zoar"])
        rates.keep_rates(tuned, facts_of(tiny), 2, "zoar", {"chosen": 0.1, "grid": []})
        (line,) = capsys.readouterr().out.splitlines()
        assert str(tuned) in line and "again" in line
        assert rates.tuned_rates(tuned, facts_of(tiny), ["zoar"]) == {"zoar": 0.1}


def test_an_image_comes_back_from_its_digits():
    image = np.random.default_rng(0).random((28, 28)).astype(np.float32)
    rows = experiment.as_hex(image)
    assert all(len(row) == 56 for row in rows)
    np.testing.assert_allclose(plot.from_hex(rows), image, atol=0.5 / 255 + 1e-6)


def test_rates_are_kept_beside_those_of_the_same_attacks_only(tiny, tuned):
    table = lambda: json.loads(tuned.read_text())["epsilon"]["0.3"]["methods"]  # noqa: E731
    assert set(table()) == {*attack.QUICK, "zo_sah"}
    rates.keep_rates(tuned, facts_of(tiny), 2, "hizoo", {})
    assert set(table()) == {*attack.QUICK, "zo_sah", "hizoo"}
    rates.keep_rates(tuned, facts_of(tiny, radius=0.2), 2, "hizoo", {})
    assert set(table()) == {"hizoo"}


def test_tuning_and_reports_share_neither_images_nor_seeds(tiny):
    tuned_on = attacker.attackable(tiny, slice(0, rates.TUNING_DIGITS), 40)
    reported = attacker.attackable(tiny, slice(rates.TUNING_DIGITS, None), 100)
    assert max(tuned_on) < min(reported)
    assert all(table["seed"] == rates.TUNING_SEED > 100 for table in TABLES["epsilon"].values())


def test_tuning_extends_a_grid_until_the_best_is_inside(tiny, tmp_path, monkeypatch):
    def best_at_30(method, logits, jobs, setting):
        queries = (100 + 100 * np.abs(np.log10(np.asarray(jobs.rate) / 30))).astype(int)
        return attacker.Outcome(None, queries, queries > 0, None, None)

    monkeypatch.setattr(rates, "run_attacks", best_at_30)
    path = tmp_path / "tuning.json"
    rates.tune(tiny, Setting(), facts_of(tiny), path, 2, ["zoar", "zovh"])
    methods = json.loads(path.read_text())["epsilon"]["0.3"]["methods"]
    assert list(methods) == ["zoar", "zovh"]
    assert {entry["chosen"] for entry in methods.values()} == {30.0}
    assert {entry["grid"][-1]["rate"] for entry in methods.values()} == {100.0}


def test_the_margin_curve_holds_the_last_check():
    margins = np.array([[3.0, 2.0, -1.0], [5.0, 4.0, 4.0]])
    checked = np.array([[1, 10, 20], [1, 100, 100]])
    outcome = attacker.Outcome(None, None, None, margins, checked)
    curve = experiment.margin_curve(outcome, Setting(budget=200))
    at = dict(zip(curve["queries"], curve["median"], strict=True))
    for queries, values in {1: (3, 5), 9: (3, 5), 10: (2, 5), 22: (-1, 5), 200: (-1, 4)}.items():
        nearest = max(q for q in at if q <= queries)
        if queries in at:
            assert at[queries] == sum(values) / 2, nearest


def test_a_summary_counts_by_run_and_by_queries():
    queries = np.array([400, 600, 4000, 900, 4000, 4000])
    success = np.array([True, True, False, True, False, False])
    made = experiment.summary(queries, success, np.array([0, 0, 0, 1, 1, 1]))
    assert (made["attacks"], made["successes"]) == (6, 3)
    assert [row["share"] for row in made["fooled"]] == [1 / 6, 0.5, 0.5, 0.5]
    assert made["runs"] == [
        {"seed": 0, "successes": 2, "median_queries": 600},
        {"seed": 1, "successes": 1, "median_queries": None},
    ]


def test_quartiles_among_failed_attacks_are_not_numbers():
    queries = np.array([10, 20, 400, 400])
    assert rates.quartiles(queries, queries < 400) == [10, 20, None]


@pytest.mark.parametrize("epsilon", [0.0, 1.5])
def test_settings_out_of_range(epsilon):
    with pytest.raises(ValueError, match="epsilon must be in"):
        Setting(epsilon=epsilon)


def test_an_epsilon_without_learning_rates_says_how_to_get_them(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(attack, "load", lambda cache, settings: tiny)
    with pytest.raises(ValueError, match="--tune --epsilon"):
        main(["attack", "--epsilon", "0.123", "--out", str(tmp_path)])


def test_the_command_writes_its_files(tiny, tuned, tmp_path, monkeypatch, capsys):
    """By default three of the methods of a quick run, one of them with its control."""
    few = ("zo_sgd", "zoar", "zovh")
    assert set(few) < set(attack.QUICK)
    monkeypatch.setattr(attack, "QUICK", few)
    monkeypatch.setattr(attack, "load", lambda cache, settings: tiny)
    options = ["--images", "3", "--budget", "48", "--tuning", str(tuned), "--out", str(tmp_path)]
    main(["attack", *options])
    content = json.loads((tmp_path / "attack.json").read_text())
    assert set(content) == {
        *("environment", "setting", "victim", "images", "seeds", "picture", "methods")
    }
    picture = content["picture"]
    assert sorted(drawn["method"] for drawn in picture["attacks"]) == sorted(few)
    row = content["methods"][0]["image"].index(picture["image"])
    for drawn in picture["attacks"]:
        (entry,) = [e for e in content["methods"][:3] if e["method"] == drawn["method"]]
        assert drawn["queries"] == entry["queries_spent"][row]
        assert all(key in attack.__doc__ for key in drawn)
    assert set(report.environment()) == set(content["environment"])
    shown = [(entry["method"], entry["control"]) for entry in content["methods"]]
    assert shown == [*((name, False) for name in few), ("zoar", True)]
    for entry in content["methods"]:
        assert entry["attacks"] == 3 == len(entry["image"]) == len(entry["queries_spent"])
        assert entry["learning_rate"] == (0.01 if "zovh" in entry["method"] else 0.1)
        assert set(entry["margin"]) == {"queries", "q25", "median", "q75"}
        for key in entry:
            assert key in attack.__doc__
    assert (tmp_path / "attack.png").read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out
    assert attack.tables(content)["methods"] in printed and str(tmp_path / "attack.json") in printed
