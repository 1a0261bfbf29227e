"""SmolLM2 in the language models' case: a small one made up, and its file."""

import argparse
import dataclasses
import json

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tokenizers import pre_tokenizers

import zovh_jax as zo
from benchmarks import finetune
from benchmarks.common import cache
from benchmarks.finetune import costs, downloads, experiment, prompted, reviews, smollm2

pytestmark = pytest.mark.usefixtures("fast_compilation")
MERGED = ("Ġterrible", "Ġgreat")
MERGES = [(word[:i], word[i]) for word in MERGED for i in range(1, len(word))]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<|endoftext|>", *ALPHABET, *dict.fromkeys(a + b for a, b in MERGES)]
CONFIG = smollm2.Config(
    vocabulary=len(TOKENS), width=32, hidden=48, layers=2, heads=4, groups=2, slowest=100.0
)
RNG = np.random.default_rng(0)
LENGTH = 20


def weights() -> dict[str, np.ndarray]:
    """A file's arrays, the second layer's first."""

    def array(*shape):
        return RNG.normal(size=shape).astype(np.float32) / 4

    width, hidden = CONFIG.width, CONFIG.hidden
    narrow = width // CONFIG.heads * CONFIG.groups
    content = {"token_embd": array(CONFIG.vocabulary, width), "output_norm": 1 + array(width)}
    for layer in reversed(range(CONFIG.layers)):
        of_layer = {
            "attn_norm": 1 + array(width),
            "attn_q": array(width, width),
            "attn_k": array(narrow, width),
            "attn_v": array(narrow, width),
            "attn_output": array(width, width),
            "ffn_norm": 1 + array(width),
            "ffn_gate": array(hidden, width),
            "ffn_up": array(hidden, width),
            "ffn_down": array(width, hidden),
        }
        content |= {f"blk.{layer}.{name}": x for name, x in of_layer.items()}
    return {f"{name}.weight": x for name, x in content.items()}


WEIGHTS = weights()


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """A GGUF file with embeddings of eight bits."""
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list(TOKENS)
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    for name, x in WEIGHTS.items():
        if name == "token_embd.weight":
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture(scope="module")
def data(content):
    """Sixty short sentences; those with a 'z' have good scores."""
    lines = [
        f"{i}\t{score}\t{'ab'[i // 2 % 2]} {word} "
        for i in range(60)
        for score, word in [(2.5, "z") if i % 3 else (-1.5, "h")]
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smollm2, "CONFIG", CONFIG)
        patch.setattr(prompted, "CHUNK", 4)  # does not divide the ten sentences
        patch.setattr(prompted, "LENGTH", LENGTH)
        patch.setattr(reviews, "HELD_OUT", 10)
        patch.setattr(reviews, "VALIDATION", 10)
        patch.setattr(downloads, "smollm2", lambda: content)
        patch.setattr(downloads, "reviews", lambda: "\n".join(lines).encode())
        yield experiment.data_of(experiment.SMOLLM2)


@pytest.fixture(scope="module")
def everything(data):
    return prompted.everything(data)


@pytest.fixture(scope="module")
def adapters(data):
    return prompted.adapters(data)


def reference(weights: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """Logits of all tokens to come next, in float64, token by token and head by head."""
    w = {name.removesuffix(".weight"): np.asarray(x, float) for name, x in weights.items()}
    size, shared = CONFIG.width // CONFIG.heads, CONFIG.heads // CONFIG.groups

    def norm(x, scale):
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + CONFIG.epsilon) * scale

    def turned(vector, place):
        numbers = vector[::2] + 1j * vector[1::2]
        angles = place / CONFIG.slowest ** (2 * np.arange(size // 2) / size)
        numbers = numbers * np.exp(1j * angles)
        return np.stack([numbers.real, numbers.imag], 1).ravel()

    x = w["token_embd"][tokens]
    for layer in range(CONFIG.layers):
        q, k, v, out, gate, up, down = (
            w[f"blk.{layer}.{name}"]
            for name in (
                *("attn_q", "attn_k", "attn_v", "attn_output"),
                *("ffn_gate", "ffn_up", "ffn_down"),
            )
        )
        inner = norm(x, w[f"blk.{layer}.attn_norm"])
        mixed = np.zeros_like(x)
        for head in range(CONFIG.heads):
            own = slice(head * size, (head + 1) * size)
            group = slice(head // shared * size, (head // shared + 1) * size)
            for place in range(len(tokens)):
                query = turned(q[own] @ inner[place], place)
                keys = [turned(k[group] @ inner[i], i) for i in range(place + 1)]
                scores = np.exp([query @ key / np.sqrt(size) for key in keys])
                values = [v[group] @ inner[i] for i in range(place + 1)]
                mixed[place, own] = scores / scores.sum() @ values
        x = x + mixed @ out.T
        inner = norm(x, w[f"blk.{layer}.ffn_norm"])
        gates = inner @ gate.T
        x = x + (gates / (1 + np.exp(-gates)) * (inner @ up.T)) @ down.T
    return w["token_embd"] @ norm(x[-1], w["output_norm"])


def test_the_model_is_that_of_the_file(everything, content):
    arrays = smollm2.arrays(content)
    assert set(arrays) == set(WEIGHTS)
    eight_bits = np.abs(arrays["token_embd.weight"] - WEIGHTS["token_embd.weight"]).max()
    assert 0 < eight_bits < 0.01
    tokens = RNG.integers(1, len(TOKENS), (3, 6))
    got = everything.logits(everything.params, jnp.asarray(tokens))
    answers = [TOKENS.index(word) for word in MERGED]
    want = [reference(arrays, row)[answers] for row in tokens]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_file_of_another_model(data):
    model = nnx.eval_shape(lambda: smollm2.SmolLM2(CONFIG, nnx.Rngs(0)))
    for name, message in (("rope_freqs.weight", "no place"), ("blk.1.attn_q.weight", "the shape")):
        with pytest.raises(ValueError, match=message):
            smollm2.load(model, {name: np.zeros(3, np.float32)})


def test_padding_changes_nothing(everything):
    tokens = everything.inputs.held_out
    assert not tokens[:, 10:].any() and tokens[:, :10].all()
    want = everything.logits(everything.params, tokens[:, :10])
    np.testing.assert_allclose(everything.logits(everything.params, tokens), want, atol=1e-5)
    some_at_a_time = everything.logits_of_many(everything.params, tokens)
    np.testing.assert_allclose(some_at_a_time, want, atol=1e-5)


def test_what_is_asked_is_never_cut(data):
    encode = prompted.tokenizer(downloads.smollm2())
    behind = encode.encode(prompted.ASKED).ids
    texts = ["", "a", " a b ", "abc" * LENGTH, "é1969 " * LENGTH]
    tokens = prompted.tokenized(texts, LENGTH)
    assert tokens.shape == (len(texts), LENGTH)
    for row in tokens:
        end = np.flatnonzero(row)[-1] + 1
        assert row[:end].all()
        assert row[end - len(behind) : end].tolist() == behind
    assert tokens[2, :3].tolist() == encode.encode("a b").ids
    assert (tokens[3:] > 0).all()
    assert encode.encode("It's 19").tokens == ["I", "t", "'", "s", "Ġ", "1", "9"]
    assert [encode.encode(x).tokens for x in prompted.ANSWERS] == [[x] for x in MERGED]


def test_sentences_are_those_of_the_other_model(data):
    other = reviews.load(1, tokenized=lambda texts, length: np.zeros((len(texts), length)))
    for name, each in data.sets().items():
        np.testing.assert_array_equal(each.labels, other.sets()[name].labels)
        np.testing.assert_array_equal((each.tokens == TOKENS.index("z")).any(1), each.labels == 1)


def test_what_is_trained(everything, adapters):
    count = [sum(x.size for x in jax.tree.leaves(m.params)) for m in (everything, adapters)]
    of_layer = prompted.LORA_RANK * (3 * CONFIG.width + CONFIG.width // 2)
    assert count == [sum(x.size for x in WEIGHTS.values()), CONFIG.layers * of_layer]
    same = [m.logits(m.params, m.inputs.training[:3]) for m in (everything, adapters)]
    np.testing.assert_allclose(*same, atol=1e-6)
    for model in (everything, adapters):
        explanation = zo.explain(
            lambda p, m=model: jnp.sum(m.logits(p, m.inputs.training[:2])),
            model.params,
            zo.directions.low_rank(split=model.split),
        )
        stacks = {p.split for p in explanation.parameters if len(p.shape) == 3}
        assert stacks == {"sio"}
        assert {p.status for p in explanation.parameters} <= {"factored", "full"}
        assert {len(p.shape) for p in explanation.parameters if p.status == "full"} <= {1, 2}


def test_values_are_those_of_perturbed_parameters(everything):
    params, tokens, split = everything.params, everything.inputs.training[:3], everything.split

    def loss(params):
        return jnp.sum(jnp.square(everything.logits(params, tokens)))

    def both(directions):
        key = jax.random.key(0)
        queries = zo.query(loss, params, key, num_directions=3, radius=0.01, directions=directions)
        drawn = queries.plan.draw(params)
        perturbed = jax.tree.map(lambda x, u: x + 0.01 * u, params, drawn)
        return queries.values.ravel(), jax.vmap(loss)(perturbed)

    for directions in (
        zo.directions.low_rank(split=split),
        zo.directions.hadamard(factored=True, split=split),
    ):
        got, want = jax.jit(both, static_argnums=0)(directions)
        np.testing.assert_allclose(got, want, rtol=1e-4)
        assert np.ptp(want) > 1e-2 * np.abs(want).max()


def test_run(adapters, monkeypatch, tmp_path):
    name, smol = "SmolLM2, adapters", experiment.SMOLLM2
    part = experiment.Part("adapters", 4, ("zoar_low_rank",), 16, seeds=(0,), checkpoints=1)
    tiny = {"adapters": part, name: dataclasses.replace(part, model=smol)}
    monkeypatch.setattr(experiment, "QUICK", tiny)
    makers = dict.fromkeys(prompted.TRAINED, lambda data: dataclasses.replace(adapters, chunk=None))
    monkeypatch.setitem(experiment.TRAINED, smol, makers)
    monkeypatch.setattr(costs, "measure", lambda *args, **settings: [])
    # What an earlier version has written names no model.
    earlier = {
        "probe": 0.5,
        "parts": {"adapters": {"rows": []}, name: {"model": smol, "rows": []}},
        "costs": {"a card": {"rows": []}, "a card, SmolLM2": {"rows": []}},
    }
    path = tmp_path / "finetune.json"
    path.write_text(json.dumps(earlier))
    monkeypatch.setattr(finetune, "tables", lambda result: {})
    monkeypatch.setattr(finetune, "PICTURES", {})
    arguments = {"full": False, "out": tmp_path, "model": smol, "scale": None, "methods": None}
    finetune.run(argparse.Namespace(**arguments, only=None))
    result = json.loads(path.read_text())
    assert result["probe"] == 0.5
    assert result["parts"]["adapters"] == {"rows": []}
    found = result["parts"][name]
    assert (found["model"], found["length"], found["trained"]) == (smol, LENGTH, "adapters")
    assert [row["method"] for row in found["rows"]] == ["zoar_low_rank"]
    assert np.shape(found["rows"][0]["tests"]["each"]) == (1, 2)
    assert set(result["costs"]) == {"a card", f"{result['environment']['device']}, SmolLM2"}
    with pytest.raises(ValueError, match="only must name parts"):
        finetune.run(argparse.Namespace(**arguments, only=["adapters"]))


@pytest.mark.slow
def test_published_weights(monkeypatch):
    """They know the capital of France."""
    monkeypatch.setattr(downloads, "FOLDER", cache.FOLDER / "finetune")
    content = downloads.smollm2()
    encode = prompted.tokenizer(content)
    tokens = jnp.asarray([encode.encode("The capital of France is").ids])
    words = [encode.encode(word).ids[0] for word in (" London", " the", " Paris")]
    logits = nnx.jit(lambda model: model.answers(tokens, words))(smollm2.pretrained(content))
    assert jnp.argmax(logits) == 2
