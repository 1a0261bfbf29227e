"""``python -m examples.gallery [NAME ...]``: draws the pictures and writes the page around them."""

import argparse
import importlib
import inspect
import io
import pathlib
import textwrap

import matplotlib

matplotlib.use("Agg")  # pictures go to files: no screen is needed

from matplotlib import pyplot as plt
from PIL import Image, PngImagePlugin
from tqdm import tqdm

from examples.gallery import NAMES

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "pages" / "gallery"
STYLE = ["tableau-colorblind10", {"axes.titlesize": "medium", "legend.frameon": False}]
INTRODUCTION = """<!-- python -m examples.gallery writes this page -->
# Gallery

Ten short programs, each with a picture. They are in the folder `examples/gallery`:
`pip install -e '.[examples]'` has what they need, and `python -m examples.gallery NAME` draws
one of them again. All queries are counted, those for tuning too.
"""


def module(name):
    """An example."""
    return importlib.import_module(f"examples.gallery.{name}")


def draw(name):
    """Runs an example and keeps its picture, which remembers the queries."""
    with plt.style.context(STYLE):
        figure, result = module(name).main()
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=110)
        plt.close(figure)
    about = PngImagePlugin.PngInfo()
    about.add_text("Queries", f"{result['queries']:,}")
    with Image.open(drawn) as picture:  # with few colours, which halves its size
        few = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
        few.save(FOLDER / f"{name}.png", optimize=True, pnginfo=about)


def entry(name):
    """A picture's part of the page."""
    title, story = inspect.getdoc(module(name)).split("\n\n")
    with Image.open(FOLDER / f"{name}.png") as picture:
        queries = picture.text["Queries"]
    source = textwrap.indent(inspect.getsource(module(name)), "    ", bool)
    return (
        f"\n## {title.rstrip('.')}\n\n![{title}]({name}.png)\n\n{story}\n\n{queries} queries.\n\n"
        f'??? example "examples/gallery/{name}.py"\n\n    ```py\n{source}    ```\n'
    )


def page():
    """The page of the gallery."""
    return INTRODUCTION + "".join(map(entry, NAMES))


def main(argv=None):
    """Draws all pictures, or those that are named, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--page", action="store_true", help="write the page and draw nothing")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no example is called {', '.join(sorted(unknown))}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in (bar := tqdm([] if options.page else options.names or NAMES, unit="picture")):
        bar.set_description(name)
        draw(name)
    (FOLDER / "index.md").write_text(page())


if __name__ == "__main__":
    main()
