"""Transformers of several sizes on a text, with tiny ones and a text made up."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import zovh_jax as zo
from benchmarks import finetune
from benchmarks.finetune import costs, downloads
from benchmarks.finetune.scale import experiment, text
from benchmarks.finetune.scale.transformer import Config, Transformer

pytestmark = pytest.mark.usefixtures("fast_compilation")
TINY = Config(8, 2, 2, 12)


@pytest.fixture
def data(monkeypatch):
    """A text whose last tenth has digits and whose rest has none; each sentence has a score."""
    words = [f"{'0123456789'[i % 10]}{i % 7}" * 5 if i >= 135 else "abcdefghij" for i in range(150)]
    lines = [f"{i}\t{i % 5 - 2.0}\t{word}" for i, word in enumerate(words)]
    monkeypatch.setattr(downloads, "reviews", lambda: "\n".join(lines).encode())
    monkeypatch.setattr(experiment, "CONTEXT", TINY.positions)
    return text.load()


def test_no_byte_sees_later_ones():
    graph, shapes = nnx.split(nnx.eval_shape(lambda: Transformer(TINY, nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)
    tokens = rng.integers(0, 255, (2, 12))
    later = tokens + (np.arange(12) == 7)
    of_tokens = jax.jit(lambda tokens: nnx.merge(graph, params)(tokens))
    logits, changed = map(np.asarray, map(of_tokens, (tokens, later)))
    assert logits.shape == (2, 12, 256)
    np.testing.assert_allclose(logits[:, :7], changed[:, :7], atol=1e-6)
    assert (np.abs(logits - changed)[:, 7:].max((0, 2)) > 1e-3).all()


def test_sizes():
    """As the documentation has them."""
    shapes = [experiment.model_of(config).dimension for config in experiment.SIZES.values()]
    assert shapes == [112_816, 1_065_600, 10_868_992, 96_972_544]


def test_windows_are_of_their_own_text(data):
    sizes = [len(each) for each in data]
    assert sum(sizes) == 150 * 11 - 1
    assert sizes[2] == sum(sizes) // 10 and sizes[1] == sum(sizes) // 20
    digits = np.arange(ord("0"), ord("9") + 1)
    assert not np.isin(data.training, digits).any()
    windows = text.drawn(jnp.asarray(data.training), jax.random.key(0), 500, 13)
    assert windows.shape == (500, 13)
    followed = np.lib.stride_tricks.sliding_window_view(data.training, 13)
    assert {*map(bytes, np.uint8(windows))} == {*map(bytes, followed)}  # all places, and no other
    np.testing.assert_array_equal(
        text.spread(data.held_out, 100, 13).ravel(), data.held_out[: len(data.held_out) // 13 * 13]
    )
    assert text.spread(data.training, 5, 13).shape == (5, 13)


def test_frequencies_are_of_the_training_text():
    even = np.arange(256, dtype=np.uint8)
    assert text.unigram(text.Text(even, even, even)) == pytest.approx(np.log(256))
    assert text.unigram(text.Text(even[:128].repeat(9), even, even[128:])) > np.log(1_000)


def test_no_matrix_is_formed(data):
    model = experiment.model_of(TINY)
    split = experiment.split_of(model)
    windows = jnp.zeros((2, 13), jnp.int32)
    for family in (zo.directions.low_rank, zo.directions.hadamard):
        factored = {} if family is zo.directions.low_rank else {"factored": True}
        explanation = zo.explain(
            lambda params: model.loss(params, windows),
            model.shapes,
            family(split=split, **factored),
        )
        assert explanation.formed == 0
        for p in explanation.parameters:
            matrix = "kernel" in p.path or "embedding" in p.path
            assert p.status == ("factored" if matrix else "full")
            assert not matrix or p.split == ("sio" if "layers" in p.path else "io")


def test_run(data, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(experiment, "SIZES", {"1e5": TINY, "1e6": TINY})
    monkeypatch.setattr(experiment, "BUDGET", 40)
    monkeypatch.setattr(experiment, "SEEDS", (0, 1))
    monkeypatch.setattr(experiment, "BATCH", 2)

    started = []

    def followed(programs, turns):
        """Costs made up, of programs of which the first two do trace."""
        started.append(programs["plain forward"].arguments[0])
        for program in list(programs.values())[:2]:
            jax.eval_shape(program.function, *program.arguments)
        cost = {"seconds": 0.1, "temporaries": 9, "compile_seconds": 1.0}
        return {name: cost | {"sentences": p.sentences} for name, p in programs.items()}

    monkeypatch.setattr(costs, "in_turns", followed)
    arguments = {"full": False, "out": tmp_path, "methods": None}
    experiment.measure(["1e5"], None, ["costs"], tmp_path)
    tuned = {"scale": ["1e6"], "methods": ["mezo"], "only": ["training"]}
    finetune.run(argparse.Namespace(**arguments | tuned))
    result = json.loads((tmp_path / "finetune.json").read_text())
    scale = result["scale"]
    assert [*scale["training"]] == ["1e6"]
    (row,) = scale["training"]["1e6"]["rows"]
    assert row["method"] == "mezo"
    assert row["queries_spent"] <= 40
    assert row["test"]["each"] == [each[-1] for each in row["tests"]["each"]]
    (sizes,) = scale["costs"].values()  # these are kept
    kernel = started[0]["layers"]["up"]["kernel"][...]
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1  # layers begin with weights of their own
    programs = ["plain forward", "ZoAR, low rank", "ZoAR, Gaussian", "MeZO"]
    assert [row["program"] for row in sizes["1e5"]["rows"]] == programs
    assert [row["sentences"] for row in sizes["1e5"]["rows"]] == [16, 16, 16, 4]
    assert sizes["1e5"]["bytes"] == 4 * sizes["1e5"]["dimension"]
    assert (tmp_path / "finetune-scale.png").stat().st_size > 10_000
    assert not (tmp_path / "finetune.png").exists()
    tables = finetune.tables(result)
    assert [*tables] == ["scale", "scale_costs"]
    assert tables["scale"] in capsys.readouterr().out
    assert f"{sizes['1e5']['dimension']:,}" in tables["scale_costs"]
    with pytest.raises(ValueError, match="only must be training or costs"):
        finetune.run(argparse.Namespace(**arguments, scale=["1e5"], only=["everything"]))
    with pytest.raises(ValueError, match="methods go with --scale"):
        finetune.run(argparse.Namespace(**arguments | {"methods": ["adam"]}, scale=None, only=None))


def test_runs_of_another_budget_do_not_mix():
    def runs(budget, *methods):
        found = {"budget": budget, "environment": {}, "rows": [{"method": m} for m in methods]}
        return {"context": 1, "text": {}, "training": {"1e5": found}, "costs": {}}

    def methods(scale):
        return [row["method"] for row in scale["training"]["1e5"]["rows"]]

    assert methods(experiment.merged(runs(10, "adam"), runs(10, "mezo"))) == ["mezo", "adam"]
    assert methods(experiment.merged(runs(10, "adam"), runs(20, "mezo"))) == ["mezo"]
    other = runs(10, "adam") | {"context": 2}
    assert methods(experiment.merged(other, runs(10, "mezo"))) == ["mezo"]
