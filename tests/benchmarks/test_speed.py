"""The speed case, with everything small: what it times, what it compares with, what it writes."""

import argparse
import json
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from benchmarks import speed
from benchmarks.common import timing
from benchmarks.speed import calls, compilation, encoder, experiment, others, pieces
from benchmarks.speed.tables import targets

pytestmark = pytest.mark.usefixtures("fast_compilation")
quadratic = zo.problems.quadratic()

GENERATOR = "fast"
"""The one that compiles faster."""


def test_a_loop_takes_the_steps_it_is_told_to():
    seen = []
    step = lambda c: (jax.debug.callback(lambda x: seen.append(int(x)), c), c + 1)[1]  # noqa: E731
    for make in (timing.looped, timing.called):
        seen.clear()
        assert int(make(step, jnp.int32(3))(5)) == 8
        jax.effects_barrier()
        assert seen == [3, 4, 5, 6, 7]


def test_contenders_take_turns_of_about_the_same_length(monkeypatch):
    now, order = [0.0], []

    def contender(name, seconds):
        def run(steps):
            order.append((name, steps))
            now[0] += seconds * steps

        return run

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    costs = {"quick": 0.001, "middling": 0.01, "slow": 0.5}
    runs = {name: contender(name, cost) for name, cost in costs.items()}
    times = timing.take_turns(runs, turns=5, seconds=0.02)
    assert times == pytest.approx({name: cost * 1e6 for name, cost in costs.items()})
    quick, middling, slow = ("quick", 20), ("middling", 2), ("slow", 1)
    assert order[-13:] == [quick, middling, slow] * 3 + [quick, middling] * 2
    assert order[: -13 + 2][-2:] == [quick, middling]


def test_a_drawing_step_draws_a_new_round():
    step, carry = pieces.draw_step(experiment.GENERATORS[GENERATOR], 3, 5000)
    first = step(carry)
    second = step(first)
    assert second[0] == 2
    assert abs(np.corrcoef(np.ravel(first[1]), np.ravel(second[1]))[0, 1]) < 0.03


@pytest.mark.parametrize("generator", experiment.GENERATORS)
def test_every_generator_has_the_steps_that_it_can_take(generator):
    kept = ("N=1", "N=4 stored", "N=4 replay")
    methods = ("zoar",) if generator == "hadamard" else ("zoar", "zovh")
    steps = {f"{method} {history}" for method in methods for history in kept}
    assert set(experiment.optimizers(generator)) == steps | {"zo_sgd central"}


def test_ks_distance_tells_normal_from_uniform():
    normal = np.asarray(jax.random.normal(jax.random.key(0), 20_000))
    assert pieces.ks_distance(normal) < 0.02
    assert pieces.ks_distance(np.linspace(-1, 1, 20_000)) > 0.1


def rivals(library, d=20):
    asked = []

    def f(x):
        jax.debug.callback(lambda x: asked.append(np.asarray(x)), x)
        return quadratic(x)

    make = getattr(others, library)
    contenders = make("quadratic", f, jnp.full(d, 0.5), experiment.SETTING)
    jax.effects_barrier()
    return contenders, asked


@pytest.mark.parametrize("library", ["evosax", "nevergrad", "scipy"])
def test_other_libraries_spend_the_queries_that_they_are_charged(library):
    pytest.importorskip(library)
    contenders, asked = rivals(library)
    labels = set(experiment.optimizers(GENERATOR))
    for contender in contenders:
        asked.clear()
        contender.run(3)
        jax.effects_barrier()
        assert len(asked) == 3 * contender.queries
        assert len({tuple(point) for point in asked}) > contender.queries / 2
        assert contender.against in labels
        assert contender.library == library


def fake_reference(tmp_path, monkeypatch):
    """A stand-in for PyTorch and for the authors' code, which counts its steps."""
    steps = []

    class Value:
        def item(self):
            return 0.5 * 20 * 0.25

    class Optimizer:
        def __init__(self, params, lr, num_queries, mu, **options):
            self.options = options | {"num_queries": num_queries, "mu": mu, "lr": lr}

        def step(self, function):
            steps.append(self.options)

    class Function:
        def __call__(self):
            return Value()

        def parameters(self):
            return []

    modules = {
        "torch": types.SimpleNamespace(tensor=np.asarray, set_num_threads=lambda count: None),
        "model": types.ModuleType("model"),
        "model.synthetic_functions": types.SimpleNamespace(
            get_synthetic_funcs=lambda name, x: Function()
        ),
        "optimizer": types.ModuleType("optimizer"),
        "optimizer.zo": types.SimpleNamespace(ZoAR=Optimizer),
        "optimizer.zo_hess": types.SimpleNamespace(ZoHessVanilla=Optimizer, ZoARHess=Optimizer),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    file = tmp_path / "synthetic_and_adversarial" / "optimizer" / "zo_hess.py"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setattr(others.metadata, "version", lambda name: "1.0")
    return steps


def test_the_authors_optimisers_get_our_setting(tmp_path, monkeypatch):
    steps = fake_reference(tmp_path, monkeypatch)
    path = list(sys.path)
    make = others.available(tmp_path)["torch"]
    contenders = make("quadratic", quadratic, jnp.full(20, 0.5), experiment.SETTING)
    assert sys.path == path
    for contender in contenders:
        contender.run(2)
        assert contender.queries == 4
    shared = {"num_queries": 3, "mu": 0.1, "lr": others.RATE}
    gradient, damped = {"update_rule": "sgd"}, {"lambda_hess": 0.1}
    wanted = [
        shared | gradient | {"num_histories": 0},
        shared | damped,
        shared | gradient | {"num_histories": 3},
        shared | damped | {"num_histories": 3},
    ]
    assert steps == [options for options in wanted for _ in range(2)]


def test_their_function_has_to_be_ours(tmp_path, monkeypatch):
    fake_reference(tmp_path, monkeypatch)
    make = others.available(tmp_path)["torch"]
    with pytest.raises(AssertionError):
        make("quadratic", lambda x: 2 * quadratic(x), jnp.full(20, 0.5), experiment.SETTING)


def missing(name):
    raise others.metadata.PackageNotFoundError(name)


def test_what_is_not_installed_is_skipped_with_a_word(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(others.metadata, "version", missing)
    assert others.available(None) == {}
    printed = capsys.readouterr().out
    for library in ("evosax", "nevergrad", "scipy"):
        assert f"{library} is not installed" in printed
    assert "zovh_jax[bench]" in printed and "--reference PATH" in printed


def test_a_reference_that_cannot_be_used_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="clone of https"):
        others.available(tmp_path)
    fake_reference(tmp_path, monkeypatch)
    monkeypatch.setattr(others.metadata, "version", missing)
    with pytest.raises(ValueError, match="pip install torch"):
        others.available(tmp_path)


def small(generator):
    """A result in which every time is known: one function, a step of ours takes 30 µs."""
    label = "zovh N=1"
    step = {"generator": generator, "function": "quadratic", "step": label}
    other = {"function": "quadratic", "against": label, "queries": 4, "microseconds": 80.0}
    return {
        "pieces": [{"generator": generator, "function": "quadratic"}],
        "settings": {"history_size": 4},
        "steps": [step | {"queries": 3, "microseconds": 30.0, "over_floor": 1.5}],
        "others": [
            other | {"library": "reference", "step_ratios": {generator: 6.0}},
            other | {"library": "evosax", "query_ratios": {generator: 0.9}},
        ],
    }


def test_targets_are_judged_by_their_worst_case():
    floor, authors, evosax = targets(small(GENERATOR))
    assert (floor["value"], floor["met"]) == (1.5, False)
    assert (authors["value"], authors["met"]) == (6.0, True)
    assert (evosax["value"], evosax["met"]) == (0.9, False)
    assert {row["where"] for row in (floor, authors, evosax)} == {"zovh N=1, quadratic"}
    leaves, model = targets(small(GENERATOR) | {"compile": COMPILED})[3:]
    assert (leaves["value"], leaves["met"]) == (3.0, True)
    assert (model["value"], model["met"]) == (4.0, False)
    few, inline, many = targets(small(GENERATOR) | {"calls": CALLED})[3:]
    assert (few["value"], few["met"]) == (2.0, True)
    assert (inline["value"], inline["met"]) == (3.0, False)
    assert (many["value"], many["met"]) == (1.6, False)


@pytest.mark.slow
def test_called_steps_are_measured_as_they_are_and_packed():
    small, large = calls.measure(turns=1, seconds=1e-3, labels=["zo_sgd"])
    assert (small["parameters"], large["parameters"]) == (calls.SMALL, calls.LARGE)
    assert (small["plain_arrays"], small["packed_arrays"]) == (11, 1)
    assert min(small[form] for form in ("adam", "compiled", "plain", "packed")) > 0
    assert min(small["inline"].values()) > 0


def test_the_encoder_is_of_the_size_it_says():
    leaves = jax.tree.leaves(encoder.shapes(encoder.Config()))
    assert len(leaves) == 103
    assert sum(leaf.size for leaf in leaves) == 22_713_216


def test_the_encoder_reads_every_leaf_and_token():
    config = encoder.Config(vocabulary=11, positions=5, width=8, hidden=6, layers=1, heads=2)
    shapes = encoder.shapes(config)
    keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(shapes)))
    keys = jax.tree.unflatten(jax.tree.structure(shapes), list(keys))
    params = jax.tree.map(lambda key, leaf: jax.random.normal(key, leaf.shape), keys, shapes)
    tokens, targets = jnp.arange(10).reshape(2, 5), jnp.zeros((2, 8))
    loss = jax.jit(jax.value_and_grad(encoder.loss), static_argnums=3)
    before, slopes = loss(params, tokens, targets, config)
    assert 0 < before < 1
    for i in range(5):
        assert loss(params, tokens.at[0, i].set(10), targets, config)[0] != before
    for path, slope in jax.tree.leaves_with_path(slopes):
        # A key's bias adds the same to all scores of a query: only rounding moves it.
        assert slope.any() or "'key']['bias']" in jax.tree_util.keystr(path)


def test_compiling_is_measured_for_every_family_and_the_model(monkeypatch):
    monkeypatch.setattr(jax, "clear_caches", lambda: None)  # other tests can use them
    monkeypatch.setattr(compilation, "SHAPES", [(2, 2)] * 3)
    monkeypatch.setattr(compilation, "FAMILIES", {"fast": experiment.GENERATORS["fast"]})
    tiny = encoder.Config(vocabulary=7, positions=8, width=4, hidden=4, layers=1, heads=1)
    monkeypatch.setattr(compilation, "MODEL", tiny)
    monkeypatch.setattr(compilation, "LENGTH", 8)
    found = compilation.measure(1)
    (row,) = found["steps"]
    assert row["ratio"] == row["many_leaves"] / row["one_leaf"] > 0
    model = found["model"]
    assert model["leaves"] == 23 and model["ratio"] == model["step"] / model["forwards"] > 0


def test_run(tmp_path, monkeypatch, capsys):
    kept = ("zoar N=1", "zovh N=1")
    optimizers = experiment.optimizers
    few = lambda *a, **k: {n: tx for n, tx in optimizers(*a, **k).items() if n in kept}  # noqa: E731
    rival = others.Contender("evosax", "ES", "zoar N=1", 4, lambda n: time.sleep(1e-4 * n))
    monkeypatch.setattr(experiment, "DIMENSION", 50)
    monkeypatch.setattr(experiment, "FUNCTIONS", {"quadratic": experiment.FUNCTIONS["quadratic"]})
    monkeypatch.setattr(experiment, "GENERATORS", {GENERATOR: experiment.GENERATORS[GENERATOR]})
    monkeypatch.setattr(experiment, "optimizers", few)
    monkeypatch.setattr(others, "available", lambda reference: {"evosax": lambda *a: [rival]})
    monkeypatch.setattr(others, "versions", lambda found: {"evosax": "1"})
    monkeypatch.setattr(pieces, "time_generators", lambda *arguments: [GENERATOR_ROW])
    monkeypatch.setattr(compilation, "measure", lambda turns: COMPILED)
    monkeypatch.setattr(calls, "measure", lambda turns, seconds: CALLED)
    monkeypatch.setattr(pieces, "memory", lambda steps: [])  # compiled in test_memory.py
    speed.run(argparse.Namespace(full=False, out=tmp_path, reference=None, only=None, rivals=False))
    result = json.loads((tmp_path / "speed.json").read_text())
    assert (tmp_path / "speed.png").stat().st_size > 10_000
    for key in result:
        assert f"``{key}``" in speed.__doc__
    (parts,) = result["pieces"]
    floor = parts["random"] + parts["objective"]
    assert [row["step"] for row in result["steps"]] == ["zoar N=1", "zovh N=1"]
    for row in result["steps"]:
        assert row["over_floor"] == pytest.approx(row["microseconds"] / floor)
    (other,) = result["others"]
    ratio = other["step_ratios"][GENERATOR]
    assert ratio == pytest.approx(other["microseconds"] / result["steps"][0]["microseconds"])
    assert other["query_ratios"][GENERATOR] == pytest.approx(ratio * 3 / 4)
    printed = capsys.readouterr().out
    for name in ("targets", "others", GENERATOR):
        assert speed.tables(result)[name] in printed

    slower = [row | {"packed": 3 * row["packed"]} for row in CALLED]
    monkeypatch.setattr(calls, "measure", lambda turns, seconds: slower)
    part = {"full": False, "out": tmp_path, "only": ["calls"], "rivals": False}
    speed.run(argparse.Namespace(**part))
    again = json.loads((tmp_path / "speed.json").read_text())
    assert again["calls"] == slower and again["targets"] != result["targets"]
    same = set(result) - {"calls", "targets"}
    assert {key: again[key] for key in same} == {key: result[key] for key in same}


COMPILED = {
    "steps": [{"generator": "fast", "one_leaf": 0.5, "many_leaves": 1.5, "ratio": 3.0}],
    "model": {"leaves": 103, "parameters": 10**7, "step": 8.0, "forwards": 2.0, "ratio": 4.0},
}
CALLED = [
    {"step": "zo_sgd", "parameters": d, "adam": 10.0, "compiled": compiled, "plain": 40.0,
     "packed": packed, "inline": {"adam": 10.0, "packed": 1.5 * packed}, "plain_arrays": 11,
     "packed_arrays": 1}
    for d, compiled, packed in ((10, 4.0, 20.0), (10_000, 50.0, 80.0))
]  # fmt: skip
GENERATOR_ROW = {"name": "a", "ns_per_number": 1.0, "ks_distance": 0.1, "excess_kurtosis": 0.0}
