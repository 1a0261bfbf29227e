"""The language model's case, with a small model, and sentences made up."""

import argparse
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from tokenizers import Tokenizer, models, pre_tokenizers

import zovh_jax as zo
from benchmarks import finetune
from benchmarks.common import cache, tuning
from benchmarks.finetune import costs, downloads, experiment, minilm, reviews, trained
from benchmarks.finetune.contenders import CONTENDERS
from benchmarks.finetune.tables import HEAD, of_costs, of_part, of_seconds, of_targets, timed

pytestmark = pytest.mark.usefixtures("fast_compilation")
CONFIG = minilm.Config(vocabulary=12, positions=8, width=16, hidden=24, layers=1, heads=4)
RNG = np.random.default_rng(0)
WORDS = ("good", "bad", "film", "plot", "the", "a")


def weights() -> dict[str, np.ndarray]:
    """A file's content, with a pooler that the model has no use for."""

    def array(*shape):
        return RNG.normal(size=shape).astype(np.float32) / 4

    width, hidden = CONFIG.width, CONFIG.hidden
    content = {
        "embeddings.word_embeddings.weight": array(CONFIG.vocabulary, width),
        "embeddings.position_embeddings.weight": array(CONFIG.positions, width),
        "embeddings.token_type_embeddings.weight": array(2, width),
        "pooler.dense.weight": array(width, width),
    }
    norms, linears = ["embeddings.LayerNorm"], {}
    for i in range(CONFIG.layers):
        layer = f"encoder.layer.{i}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            linears[f"{layer}.attention.{name}"] = (width, width)
        linears[f"{layer}.intermediate.dense"] = (hidden, width)
        linears[f"{layer}.output.dense"] = (width, hidden)
    for name, shape in linears.items():
        content |= {f"{name}.weight": array(*shape), f"{name}.bias": array(shape[0])}
    for name in norms:
        content |= {f"{name}.weight": 1 + array(width), f"{name}.bias": array(width)}
    return content


WEIGHTS = weights()


@pytest.fixture
def data(monkeypatch, tmp_path):
    """Sixty sentences of four words; those with "good" have good scores."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {word: i for i, word in enumerate(WORDS, 2)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    lines = [
        f"{i}\t{score}\tthe {WORDS[i // 2 % 2 + 2]} {word} a"
        for i in range(60)
        for score, word in [(2.5, "good") if i % 3 else (-1.5, "bad")]
    ]
    unclear = "99\t0.1\ta film"
    monkeypatch.setattr(minilm, "CONFIG", CONFIG)
    monkeypatch.setattr(reviews, "HELD_OUT", 10)
    monkeypatch.setattr(reviews, "VALIDATION", 10)
    monkeypatch.setattr(downloads, "FOLDER", tmp_path)
    monkeypatch.setattr(downloads, "weights", lambda: safetensors.numpy.save(WEIGHTS))
    monkeypatch.setattr(downloads, "tokenizer", lambda: tokenizer.to_str().encode())
    monkeypatch.setattr(downloads, "reviews", lambda: "\n".join([*lines, unclear]).encode())
    return reviews.load(6)


def test_sentences(data):
    sizes = [len(each.labels) for each in data.sets().values()]
    assert sizes == [40, 10, 10]
    tokens = np.concatenate([each.tokens for each in data.sets().values()])
    labels = np.concatenate([each.labels for each in data.sets().values()])
    assert tokens.shape == (60, 6)
    assert not tokens[:, 4:].any()  # padded
    np.testing.assert_array_equal((tokens == 2).any(1), labels == 1)


def test_weights_reach_the_model(data):
    model = minilm.pretrained(downloads.weights())
    layer, name = model.layers[0], "encoder.layer.0"
    for part, key in (
        (model.words.embedding, "embeddings.word_embeddings.weight"),
        (model.types.embedding, "embeddings.token_type_embeddings.weight"),
        (model.norm.scale, "embeddings.LayerNorm.weight"),
        (layer.value.bias, f"{name}.attention.self.value.bias"),
        (layer.attention_norm.bias, f"{name}.attention.output.LayerNorm.bias"),
        (layer.norm.scale, f"{name}.output.LayerNorm.weight"),
    ):
        np.testing.assert_array_equal(part[...], WEIGHTS[key])
    np.testing.assert_array_equal(
        layer.up.kernel[...], WEIGHTS[f"{name}.intermediate.dense.weight"].T
    )
    with pytest.raises(ValueError, match="has the shape"):
        minilm.load(model, safetensors.numpy.save({"embeddings.LayerNorm.bias": np.zeros(3)}))


def test_padding_changes_nothing(data):
    model = minilm.pretrained(downloads.weights())
    tokens = data.training.tokens[:3]
    vectors = model(jnp.asarray(tokens))
    np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(vectors, model(jnp.asarray(tokens[:, :4])), atol=1e-6)


def test_before_training_all_models_are_the_same(data):
    tokens = jnp.asarray(data.training.tokens[:5])
    encoder = minilm.pretrained(downloads.weights())
    expected = trained.SCALE * encoder(tokens) @ encoder(jnp.asarray(data.prompts)).T
    for name, make in trained.TRAINED.items():
        model = make(data)
        logits = model.logits(model.params, model.inputs.training[:5])
        # Rounding weights to eight bits changes logits, which are near 20, by some tenths.
        np.testing.assert_allclose(logits, expected, atol=0.5 if name == "scales" else 1e-4)


def test_what_is_trained(data):
    sizes = {
        name: sum(x.size for x in jax.tree.leaves(make(data).params))
        for name, make in trained.TRAINED.items()
    }
    used = sum(x.size for name, x in WEIGHTS.items() if "pooler" not in name)
    head = 2 * CONFIG.width + 2
    thin = sum(x.size for x in WEIGHTS.values() if x.ndim == 1)
    outputs = sum(
        len(x) for name, x in WEIGHTS.items() if x.ndim == 2 and name.startswith("encoder")
    )
    lora = CONFIG.layers * 2 * 2 * trained.LORA_RANK * CONFIG.width
    assert sizes == {
        "head": head,
        "everything": used + head,
        "adapters": lora + head,
        "biases": thin + head,
        "scales": thin + outputs + head,
    }


def test_no_weight_is_formed(data):
    model = trained.everything(data)
    tokens = model.inputs.training[:4]
    explanation = zo.explain(
        lambda params: jnp.sum(model.logits(params, tokens)),
        model.params,
        zo.directions.low_rank(),
    )
    assert {p.status for p in explanation.parameters} == {"factored", "full"}


def test_run(data, monkeypatch, tmp_path, capsys):
    part = experiment.Part("everything", 4, ("mezo", "zoar_low_rank"), 40, seeds=(0, 1))
    tiny = {
        "head, all sentences": experiment.Part("head", experiment.ALL, ("adam",), 40, seeds=(0,)),
        "everything": dataclasses.replace(part, checkpoints=2),
    }
    monkeypatch.setattr(experiment, "QUICK", tiny)
    monkeypatch.setattr(experiment, "LENGTH", 6)
    arguments = {"full": False, "out": tmp_path, "scale": None, "methods": None, "model": "minilm"}
    finetune.run(argparse.Namespace(**arguments, only=["everything"]))
    finetune.run(argparse.Namespace(**arguments, only=["head, all sentences"]))
    result = json.loads((tmp_path / "finetune.json").read_text())
    assert set(result["parts"]) == set(tiny)  # the first one is kept
    assert (tmp_path / "finetune.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert finetune.tables(result)["everything"] in printed
    rows = result["parts"]["everything"]["rows"]
    assert [row["method"] for row in rows] == ["mezo", "zoar_low_rank"]
    for row in rows:
        assert row["queries_spent"] <= 40
        assert np.shape(row["tests"]["each"]) == (2, 3)
        assert row["test"]["each"] == [each[-1] for each in row["tests"]["each"]]
    with pytest.raises(ValueError, match="only must name parts"):
        finetune.run(argparse.Namespace(**arguments, only=["biases"]))


def test_scales_of_integers_learn(data):
    part = experiment.Part("scales", 40, ("zoar_signs",), 160, seeds=(0, 1, 2), checkpoints=2)
    task = experiment.task_of(trained.scales(data), data, part)
    trial = tuning.Trial(CONTENDERS["zoar_signs"], part.setting_of("zoar_signs"), task)
    first, *_, last = trial.measure(part.seeds, learning_rate=0.3)["curve"]["median"]
    assert last < 0.9 * first


@pytest.mark.slow
def test_costs(data):
    families = [*costs.FAMILIES][:1]
    rows = costs.measure(trained.everything(data), ((2, 3),), turns=1, families=families)
    by_name = {row["program"]: row for row in rows}
    assert set(by_name) == {costs.FORWARD, *families, costs.MEZO}
    assert by_name[costs.FORWARD]["throughput"] == pytest.approx(1)
    assert all(row["sentences"] == 6 and row["seconds"] > 0 for row in rows)
    assert costs.FORWARD in of_costs({"a card": {"rows": rows}})


def test_forwards_until_a_rival():
    def row(name, *accuracies):
        return {
            "method": name, "label": name, "kind": "full", "learning_rate": 0.1,
            "final": {"median": 0.5}, "test": {"each": [a[-1] for a in accuracies]},
            "tests": {"queries": [0, 10, 20], "each": accuracies},
            "curve": {"median": [0.7, 0.6, 0.5]},
        }  # fmt: skip

    rows = [row("mezo", (0.5, 0.6, 0.7), (0.5, 0.6, 0.8)), row("fast", (0.5, 0.8, 0.9))]
    text = of_part({"rows": rows})
    cells = [[x.strip() for x in line.split("|")[1:-1]] for line in text.splitlines()]
    assert cells[2][3] == "0.500"
    assert cells[3][3:] == ["0.750", "0.050", "20"]
    assert cells[4][3] == "**0.900**"
    assert cells[4][5] == "10"


@pytest.mark.slow
def test_published_cosines(monkeypatch):
    """The model's page has these, for all-MiniLM-L6-v2."""
    texts = [
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    ]
    monkeypatch.setattr(downloads, "FOLDER", cache.FOLDER / "finetune")
    encoder = minilm.pretrained(downloads.weights())
    vectors = nnx.jit(lambda model, tokens: model(tokens))(encoder, reviews.tokenized(texts, 16))
    expected = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)


def measured(method, kind, accuracies):
    queries = [0, 100, 200, 300]
    return {
        "method": method,
        "label": method,
        "kind": kind,
        "tests": {"queries": queries, "each": [accuracies]},
    }


def test_seconds_and_targets():
    """MeZO at 0.8 after 300 forwards of 0.2 s; along signs after 100 of 0.1 s."""
    rows = [
        measured("mezo", "full", [0.5, 0.6, 0.7, 0.8]),
        measured("zoar_signs", "factored", [0.5, 0.8, 0.7, 0.7]),
        measured("zoar_low_rank", "factored", [0.5, 0.6, 0.7, 0.7]),
    ]
    head = [measured("poem", "no learning rate", [0.5, 0.6, 0.7, 0.76])]
    costs = [("plain forward", 8, 0.6, 1.0), ("MeZO", 2, 0.4, 3.5)]
    costs += [("ZoAR, factored signs", 8, 0.8, 5.0), ("ZoAR, low rank", 8, 0.8, 4.0)]
    at = {"num_directions": 8, "batch": 16}
    costs = [
        at
        | {"program": program, "sentences": 16 * n, "seconds": seconds, "compile_seconds": spent}
        | {"throughput": 0.75, "temporaries": 1}
        for program, n, seconds, spent in costs
    ]
    part = {"num_directions": 8, "batch": 16, "budget": 300}
    result = {
        "probe": 0.78,
        "parts": {"everything": part | {"rows": rows}, HEAD: part | {"rows": head}},
        "costs": {
            "cpu": {"rows": costs},
            "a card": {"rows": [x | {"sentences": 512} for x in costs]},
        },
    }
    found = timed(result)
    assert found == pytest.approx({"mezo": 0.2, "zoar_low_rank": 0.1, "zoar_signs": 0.1})
    cells = [
        line.split("|")[1:-1] for line in of_seconds(part | {"rows": rows}, found).splitlines()
    ]
    shown = {cell[0].strip(): [x.strip() for x in cell[1:]] for cell in cells[2:]}
    assert shown["mezo"] == ["200", "60", "60"] and shown["zoar_low_rank"] == ["100", "30", "-"]
    assert shown["zoar_signs"] == ["100", "30", "10"]
    lines = [line.split("|")[3].strip() for line in of_targets(result, found).splitlines()[2:]]
    assert lines == ["0.33", "0.17", "2.00", "5.0", "0.75"]
