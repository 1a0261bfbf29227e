"""The gallery's programs do what their pictures show, and their page has them as they are."""

import importlib
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from examples.gallery import NAMES
from examples.gallery import __main__ as gallery

pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.fixture
def run():
    """Runs a program; its figure has something in all of its axes, and is closed."""

    def result_of(name, **options):
        figure, result = importlib.import_module(f"examples.gallery.{name}").main(**options)
        assert figure.axes and all(ax.has_data() for ax in figure.axes)
        plt.close(figure)
        return result

    yield result_of
    jax.clear_caches()


def test_stars_again(tmp_path, monkeypatch):
    """By the command, in full: the picture is drawn anew, and the page comes out as it was."""
    folder = tmp_path / "gallery"
    shutil.copytree(gallery.FOLDER, folder)
    before = (folder / "index.md").read_text()
    (folder / "stars.png").unlink()
    monkeypatch.setattr(gallery, "FOLDER", folder)
    gallery.main(["stars"])
    assert (folder / "index.md").read_text() == before
    with Image.open(folder / "stars.png") as picture:
        assert picture.size == (770, 440) and picture.text["Queries"] == "3,200"
    with pytest.raises(SystemExit):
        gallery.main(["nothing"])


def test_the_page_has_them_all_as_they_are():
    assert (gallery.FOLDER / "index.md").read_text() == gallery.page()
    scripts = pathlib.Path(gallery.__file__).parent.glob("[!_]*.py")
    pictures = gallery.FOLDER.glob("*.png")
    assert sorted(NAMES) == sorted(path.stem for path in scripts)
    assert sorted(NAMES) == sorted(path.stem for path in pictures)


@pytest.mark.slow
def test_stars(run):
    result = run("stars", steps=60)
    assert result["missed"][-1] <= result["missed"][0] - 8
    assert result["line"][1] > 0.5  # hot stars are bright; least squares says the opposite


@pytest.mark.slow
def test_forest(run):
    result = run("forest", num_trees=20, digits=(3, 8), most=400)
    assert max(result["margins"]) < 0 and result["stands"] > 0.5


def test_lander(run):
    result = run("lander", steps=100)
    assert np.median(result["miss"]) < 2 and np.median(result["speed"]) < 1


def test_one_bit(run):
    result = run("one_bit", steps=200)
    assert result["queries"] == 17 * 200
    assert result["trained"] > result["their signs"] + 0.03


@pytest.mark.slow
def test_straighten(run):
    result = run("straighten", steps=15, each=1)
    assert np.all(result["last"] < result["first"])
    assert np.mean(result["last"]) < 0.8 * np.mean(result["first"])


@pytest.mark.slow
def test_telescope(run):
    result = run("telescope", steps=150)
    assert result["no repeats"] > 3 * result["flat"]
    assert result["no repeats"] > result["fresh directions"]


def test_epidemic(run):
    result = run("epidemic", most=60, size=3)
    before, after = result["misfits"]
    assert after < 0.05 * before and 1.5 < result["spread"] < 2.5


@pytest.mark.slow
def test_curvature(run):
    result = run("curvature", counts=(20, 1000), steps=30)
    assert result["errors"][0] < 1 and result["errors"][1] < 0.3


@pytest.mark.slow
def test_doubt(run):
    result = run("doubt", steps=100, samples=50)
    sure, doubting = result["sure"], result["doubting"]
    assert jnp.mean(doubting) < jnp.mean(sure) - 0.1  # mostly far from flowers
    small = doubting[30, 25]  # where the smallest irises are
    assert small > 0.8 and doubting[-1, 0] < 0.7


def test_penalties(run):
    result = run("penalties", steps=12, inner_steps=10)
    assert result["shuffled"] < 0.9 and result["test"] < result["ridge"]
