"""The attack case: what is charged, what the attacker can see, what the files hold."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import attack, attacker, report, victim
from benchmarks.__main__ import main
from benchmarks.attacker import METHODS, Setting

TINY = victim.Settings(channels=(2, 4), hidden=8, epochs=1, train_size=640)
TUNING = Path(attack.__file__).parent / "results" / "attack_tuning.json"
TABLES = json.loads(TUNING.read_text())
EVERY_METHOD = [*METHODS, "zoar_no_reuse"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tiny(cache):
    return victim.load(cache, TINY)


def jobs_for(tiny, count, rate=0.1):
    rows = attack.attackable(tiny, slice(None), count)
    return attack.make_jobs(tiny, rows, np.zeros(count, int), np.full(count, rate))


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
    assert jnp.isfinite(value_fn(delta))
    for differentiate in (jax.grad(value_fn), jax.hessian(value_fn), jax.jit(jax.grad(value_fn))):
        with pytest.raises(TypeError, match="function values only"):
            differentiate(delta)


def test_the_victim_answers_alike_whatever_the_batching(tiny):
    images = tiny.images[:6]
    alone = jnp.stack([tiny.logits(image) for image in images])
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


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_every_query_is_charged(method):
    asked = []

    def logits(image):
        jax.debug.callback(lambda total: asked.append(float(total)), image.sum())
        return jnp.zeros(10).at[0].set(1 + image.mean())  # never the target

    image = np.full((1, 28, 28), 0.5, np.float32)
    keys = jax.random.split(jax.random.key(0), 1)
    jobs = attacker.Jobs(image, np.array([1]), np.array([0.1]), keys)
    setting = Setting(budget=4 * attacker.CHUNK + 3)  # no room for one round more
    outcome = attacker.run_attacks(method, logits, jobs, setting)
    jax.effects_barrier()
    assert not outcome.success[0]
    assert outcome.queries[0] == len(asked) == 4 * attacker.CHUNK
    assert len(set(asked)) == len(asked)  # and none of them was known already


@pytest.mark.parametrize("method", ["zo_sgd", "zovh_reuse"])
def test_an_attack_stops_at_its_first_success(method, tiny):
    setting = Setting(epsilon=1.0, budget=200)
    jobs = jobs_for(tiny, 20)
    outcome = attacker.run_attacks(method, tiny.logits, jobs, setting)
    assert outcome.success.any()
    negative = outcome.margins < 0
    np.testing.assert_array_equal(outcome.success, negative.any(axis=1))
    first = np.where(negative.any(axis=1), negative.argmax(axis=1), setting.rounds)
    np.testing.assert_array_equal(outcome.queries, 4 * first + outcome.success)
    for row in np.flatnonzero(outcome.success):
        sent = attacker.perturbed(jobs.image[row], outcome.delta[row], setting.epsilon)
        assert jnp.argmax(tiny.logits(sent)) == jobs.target[row]
        np.testing.assert_array_equal(outcome.margins[row, first[row] :], outcome.margins[row, -1])


@pytest.mark.parametrize("epsilon", TABLES["epsilon"])
def test_the_tuned_table_covers_every_method_inside_its_grid(epsilon):
    table = TABLES["epsilon"][epsilon]
    assert list(attack.tuned_rates(TUNING, float(epsilon))) == list(METHODS)
    for entry in table["methods"].values():
        tried = [line["rate"] for line in entry["grid"]]
        best = min(entry["grid"], key=lambda line: line["mean_queries"])
        assert tried == sorted(tried)
        assert tried[0] < entry["chosen"] < tried[-1]
        assert best["mean_queries"] == entry["grid"][tried.index(entry["chosen"])]["mean_queries"]
        assert {line["attacks"] for line in entry["grid"]} == {table["images"]}


def test_tuning_and_reports_share_neither_images_nor_seeds(tiny):
    tuned_on = attack.attackable(tiny, slice(0, attack.TUNING_DIGITS), 40)
    reported = attack.attackable(tiny, slice(attack.TUNING_DIGITS, None), 100)
    assert max(tuned_on) < min(reported)
    assert all(table["seed"] == attack.TUNING_SEED > 100 for table in TABLES["epsilon"].values())


def test_tuning_extends_a_grid_until_the_best_is_inside(tiny, tmp_path, monkeypatch):
    def best_at_30(method, logits, jobs, setting):
        queries = (100 + 100 * np.abs(np.log10(np.asarray(jobs.rate) / 30))).astype(int)
        return attacker.Outcome(None, queries, queries > 0, None)

    monkeypatch.setattr(attack, "run_attacks", best_at_30)
    attack.tune(tiny, Setting(), {}, tmp_path / "tuning.json", images=2)
    methods = json.loads((tmp_path / "tuning.json").read_text())["epsilon"]["0.3"]["methods"]
    assert {entry["chosen"] for entry in methods.values()} == {30.0}
    assert {entry["grid"][-1]["rate"] for entry in methods.values()} == {100.0}


def test_quartiles_among_failed_attacks_are_not_numbers():
    queries = np.array([10, 20, 400, 400])
    assert attack.quartiles(queries, queries < 400) == [10, 20, None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be in"),
        ({"budget": 3}, "budget must pay"),
    ],
)
def test_settings_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Setting(**arguments)


def test_an_epsilon_without_learning_rates_says_how_to_get_them(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(attack, "load", lambda cache, settings: tiny)
    with pytest.raises(ValueError, match="--tune --epsilon"):
        main(["attack", "--epsilon", "0.123", "--out", str(tmp_path)])


def test_the_command_writes_its_files(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(attack, "load", lambda cache, settings: tiny)
    main(["attack", "--images", "3", "--budget", "48", "--out", str(tmp_path)])
    content = json.loads((tmp_path / "attack.json").read_text())
    assert set(content) == {"environment", "setting", "victim", "seeds", "methods"}
    assert set(report.environment()) == set(content["environment"])
    assert [entry["method"] for entry in content["methods"]] == [*METHODS, "zoar_no_reuse", "zoar"]
    for entry in content["methods"]:
        assert entry["attacks"] == 3 == len(entry["image"]) == len(entry["queries_spent"])
        assert set(entry["queries"]) == {"q25", "median", "q75"}
        assert set(entry["margin"]) == {"queries", "q25", "median", "q75"}
        for key in entry:
            assert key in attack.__doc__
    assert (tmp_path / "attack.png").read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out
    assert "median queries" in printed and str(tmp_path / "attack.json") in printed
