"""The box-attack case: what is sent and charged, what rivals do on victims that are understood."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import box_attack, readme
from benchmarks.__main__ import main
from benchmarks.box_attack import experiment, game, ours, rivals, robust, tuning
from benchmarks.box_attack.contenders import CONTENDERS, grid
from benchmarks.common import victim

pytestmark = pytest.mark.usefixtures("fast_compilation")
EPSILON = 0.3
DIGIT = np.clip(np.add.outer(np.arange(-9, 19), np.arange(28) % 7) / 16, 0, 1).astype(np.float32)
RIVALS = {
    "square": rivals.square(0.3, 1000),
    "sign_hunter": rivals.sign_hunter(),
    "simba": rivals.simba(1.0, "pixels"),
    "simba, cosines": rivals.simba(2.0, "cosines"),
    "nes": rivals.nes(0.1, 0.1, 4),
    "bandits": rivals.bandits(0.1, 0.1, 1.0, 1.0, 7),
    "hadamard": ours.hadamard(7, 4),
    "thompson": ours.thompson(count=80),
}


def victim_of(logits, copies=1):
    """A victim that answers by this function, and shows one digit, whose label is 0."""
    zeros = np.zeros(copies, np.int32)
    images = np.repeat(DIGIT[None], copies, 0)
    return victim.Victim(logits, images, zeros, zeros, victim.Settings())


def linear(share, down=0.5, along=0.4):
    """Logits that err where striped slopes have brought the margin down by a share of the most."""
    box = game.Box.around(jnp.asarray(DIGIT), EPSILON)
    slopes = jnp.asarray(np.cos(np.add.outer(np.arange(28) * down, np.arange(28) * along)))
    best = jnp.vdot(slopes, jnp.where(slopes > 0, box.lower, box.upper) - DIGIT)

    def logits(image):
        return jnp.array([1 + jnp.vdot(slopes, image - DIGIT) / (-share * best), 0.0])

    return logits


def played(attack, logits, budget, copies=1, seed=0):
    rows = np.arange(copies)
    keys = game.keys_of(seed, rows)
    return game.play("test", attack, victim_of(logits, copies), EPSILON, budget, rows, keys)


@pytest.mark.parametrize("name", RIVALS)
def test_every_image_sent_is_in_the_box_and_charged(name):
    attack, sent = RIVALS[name], []

    def logits(image):
        jax.debug.callback(lambda image: sent.append(np.asarray(image)), image)
        return jnp.array([1 + jnp.mean(image), 0.0])  # never errs

    a_look = -(-game.CHUNK // attack.queries) * attack.queries
    outcome = played(attack, logits, 3 * a_look)
    jax.effects_barrier()
    assert not outcome.success[0]
    assert outcome.queries[0] == len(sent) == 3 * a_look
    assert np.abs(sent - DIGIT).max() <= EPSILON + 1e-6
    assert np.min(sent) >= 0 and np.max(sent) <= 1
    assert len({image.tobytes() for image in sent}) > len(sent) // 2


@pytest.mark.parametrize(
    ("name", "share", "budget"),
    [
        # One pass over all pixels finds the best vertex of a linear victim, and no sooner.
        ("sign_hunter", 0.9999, 1800),
        ("simba", 0.9999, 1 + 2 * rivals.PIXELS),
        ("simba, cosines", 0.4, 200),
        ("square", 0.6, 1000),
        ("nes", 0.1, 1000),
        ("bandits", 0.6, 1000),
        ("hadamard", 0.6, 200),
    ],
)
def test_a_linear_victim_is_fooled(name, share, budget):
    assert played(RIVALS[name], linear(share), budget, copies=4).success.all()


def test_nothing_fools_a_linear_victim_whose_best_vertex_does_not():
    outcome = played(RIVALS["sign_hunter"], linear(1.001), 1800)
    assert (outcome.success[0], outcome.queries[0]) == (False, 1800)


def test_the_first_image_that_fools_is_the_last_that_is_charged():
    """Three images a step; the seventh fools, in the middle of the third step."""

    def step(count, box, value_fn):
        turns = 3 * count + jnp.arange(3)
        images = jnp.where(turns == 6, 1.0, 0.0)[:, None, None] + jnp.zeros((3, 28, 28))
        return count + 1, jax.vmap(value_fn)(images)

    attack = game.Attack(lambda box, key: jnp.zeros((), int), step, 3)

    def logits(image):  # errs at the box's upper corner
        upper = jnp.minimum(DIGIT + EPSILON, 1)
        return jnp.array([jnp.max(upper - image) - 1e-3, 0.0])

    for budget, charged in ((100, 7), (7, 7), (6, 6)):
        outcome = played(attack, logits, budget)
        assert (outcome.queries[0], outcome.success[0]) == (charged, budget >= 7)


def test_a_quiet_victim_stays_where_square_attack_put_it():
    """All margins alike: the newest is kept, and the squares shrink on the paper's schedule."""
    attack = rivals.square(0.8, 10_000)
    box = game.Box.around(jnp.asarray(DIGIT), EPSILON)
    state, seen = attack.start(box, jax.random.key(0)), []
    step = jax.jit(lambda state: attack.step(state, box, lambda image: jnp.zeros(())))
    for _ in range(60):
        before = state.image
        state, _ = step(state)
        changed = np.argwhere(np.asarray(state.image != before))
        seen.append(np.ptp(changed, axis=0).max() + 1)
    assert seen[0] == 28  # stripes
    for turns, share in (((1, 12), 0.8), ((12, 52), 0.4), ((52, 60), 0.2)):
        assert max(seen[slice(*turns)]) == round(np.sqrt(share * 784))


def test_the_waves_have_the_covariance_that_is_asked_for():
    images = ours.waves(7.5, 3.0, rivals.PIXELS)
    covariance = (images @ images.T).reshape(28, 28, 28, 28)
    assert covariance[5, 5, 5, 5] == pytest.approx(1, abs=1e-4)
    along = covariance[14, 10, 14, 10:18]
    assert along.argmin() == 4 and along[4] < -0.1  # half a period away


def test_ours_needs_fewer_than_published_ones_where_slopes_are_as_it_expects():
    """Stripes of its period, on a linear victim."""
    spent = {
        name: played(RIVALS[name], linear(0.7, down=0.75), 400, copies=8).queries.mean()
        for name in ("thompson", "sign_hunter", "square")
    }
    assert spent["thompson"] < 0.5 * min(spent["sign_hunter"], spent["square"])


def test_the_published_settings_come_first_and_none_comes_twice():
    assert grid({"a": 1, "b": 2}, a=(0, 1), b=(2,)) == [{"a": 1, "b": 2}, {"a": 0, "b": 2}]
    assert all(
        who.own or who.choices[0] for name, who in CONTENDERS.items() if name != "sign_hunter"
    )


TINY = robust.Settings(channels=(2, 4), hidden=8, epochs=1, train_size=100, steps=2)


def test_the_robust_victim_is_trained_on_images_in_the_box(tmp_path, monkeypatch):
    monkeypatch.setattr(victim, "HELD_OUT", 50)  # fewer, for speed
    found, under_pgd = robust.load(tmp_path, TINY)
    assert 0 <= under_pgd <= found.accuracy
    with pytest.raises(TypeError, match="function values only"):
        jax.grad(lambda x: found.logits(x)[0])(jnp.zeros((28, 28)))
    images = jnp.asarray(found.images[:20])
    attacked = robust.adversarial(
        lambda x: jnp.stack([x.mean((1, 2)), jnp.zeros(len(x))], 1),
        images,
        jnp.zeros(20, int),
        jax.random.key(0),
        epsilon=EPSILON,
        steps=30,
        step_size=0.1,
    )
    np.testing.assert_allclose(attacked, jnp.maximum(images - EPSILON, 0), atol=1e-6)


@pytest.fixture
def tuned(tmp_path):
    """Settings of the square by fiat: not the published ones."""
    path, other = tmp_path / "tuning.json", {"share": 0.3, "queries": 1000}
    first = CONTENDERS["square"].choices[0]
    rows = [{"settings": s, "mean_queries": q} for s, q in ((first, 9.0), (other, 8.0))]
    tuning.keep(path, "standard", {}, "square", rows)
    return path


def test_a_rival_whose_published_settings_lose_has_both(tuned):
    published, best = tuning.chosen(tuned, "standard", "square")
    assert (published["share"], best["share"]) == (0.8, 0.3)
    assert tuning.chosen(tuned, "standard", "sign_hunter") == [{}]
    with pytest.raises(ValueError, match=r"no settings for nes against the standard.*--tune"):
        tuning.chosen(tuned, "standard", "nes")


def test_the_command_writes_its_files(tuned, tmp_path, monkeypatch, capsys):
    tiny = victim.load(tmp_path, victim.Settings(channels=(2, 4), hidden=8, epochs=1))
    monkeypatch.setattr(box_attack.victim, "load", lambda folder: tiny)
    options = ["--images", "3", "--budget", "40", "--methods", "square", "sign_hunter"]
    main(["box-attack", *options, "--tuning", str(tuned), "--out", str(tmp_path)])
    result = json.loads((tmp_path / "box-attack.json").read_text())
    (found,) = result["victims"]
    assert [entry["label"] for entry in found["methods"]] == [
        *("Square Attack, as published", "Square Attack", "SignHunter")
    ]
    documented = box_attack.__doc__
    assert all(key in documented for part in (result, found, *found["methods"]) for key in part)
    assert (tmp_path / "box-attack.png").read_bytes()[:4] == b"\x89PNG"
    assert box_attack.tables(result)["standard"] in capsys.readouterr().out
    # Another victim in the same folder joins the first.
    monkeypatch.setattr(box_attack.robust, "load", lambda folder: (tiny, 0.5))
    options = ["--victims", "robust", "--seeds", "2", *options[:4], "--methods", "sign_hunter"]
    main(["box-attack", *options, "--out", str(tmp_path)])
    both = json.loads((tmp_path / "box-attack.json").read_text())
    assert both["victims"][0] == found and both["victims"][1]["under_pgd"] == 0.5
    assert [len(v["methods"][0]["success"]) for v in both["victims"]] == [3, 6]


def test_the_committed_rows_follow_from_the_attacks():
    result = json.loads((readme.RESULTS / "box-attack.json").read_text())
    for found in result["victims"]:
        rows: dict = {}
        for entry in found["methods"]:
            outcome = game.Outcome(np.asarray(entry["queries_spent"]), np.asarray(entry["success"]))
            made = experiment.summary(outcome, result["budget"])
            assert {key: entry[key] for key in made} == made
            assert len(outcome.queries) == found["images"] * len(found["seeds"])
            rows.setdefault(entry["method"], []).append(entry["settings"])
        for method, settings in rows.items():
            assert settings == tuning.chosen(box_attack.TUNING, found["name"], method)
