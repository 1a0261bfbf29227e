"""Pages of the site that are kept elsewhere: each is made anew whenever the site is built.

A page is a `Borrowed`: where it goes on the site, and where it comes from, which its links are
relative to. Pictures are copied as they are.
"""

import ast
import base64
import dataclasses
import json
import os
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


@dataclasses.dataclass(frozen=True)
class Borrowed:
    """A file of the site.

    Attributes:
      page: its path on the site, as in "benchmarks/attack.md".
      source: the file it comes from, relative to the top of the project.
      text: markdown; None for a picture that is copied.
      data: the bytes of a picture that no file holds.
    """

    page: str
    source: str
    text: str | None = None
    data: bytes | None = None


def everything() -> list[Borrowed]:
    """All that is borrowed, with links to each other as the site has them."""
    found = [*_whole(), *_benchmarks(), *_examples()]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        found += _notebook(path)
    homes = {one.source: one.page for one in reversed(found)}  # a source's first page
    return [dataclasses.replace(one, text=_relinked(one, homes)) for one in found]


def _relinked(one: Borrowed, homes: dict[str, str]) -> str | None:
    """The text, whose links to other files of the project lead to their pages."""

    def target(match: re.Match) -> str:
        source = os.path.normpath(os.path.join(os.path.dirname(one.source), match[1]))
        if source not in homes:
            return match[1]
        return os.path.relpath(homes[source], os.path.dirname(one.page))

    return None if one.text is None else LINK.sub(target, one.text)


def _whole() -> list[Borrowed]:
    names = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
    return [Borrowed(page, name, (ROOT / name).read_text()) for name, page in names.items()]


def _benchmarks() -> list[Borrowed]:
    """One page a section of the benchmarks' README, and one for what is before them."""
    source = "benchmarks/README.md"
    first, *sections = re.split(r"(?m)^## (?=`)", (ROOT / source).read_text())
    contents, pages = [], []
    for section in sections:
        title = section.splitlines()[0]
        case = re.match(r"`([\w-]+)`", title)[1]  # type: ignore[index]
        contents.append(f"- [{title}]({case}.md)")
        pages.append(Borrowed(f"benchmarks/{case}.md", f"{source}/{case}", f"# {section}"))
    intro, rows = first.split("\n## ", 1)
    first = "\n".join([intro, "## The cases", "", *contents, "", f"## {rows}"])
    pictures = sorted((ROOT / "benchmarks/results").glob("*.png"))
    return [
        Borrowed("benchmarks/index.md", source, first),
        *(dataclasses.replace(page, source=source) for page in pages),
        *(Borrowed(f"benchmarks/results/{p.name}", _from_top(p)) for p in pictures),
    ]


def _examples() -> list[Borrowed]:
    """The examples' README, and a page with the code of each script."""
    readme = Borrowed("examples/index.md", "examples/README.md", _text("examples/README.md"))
    return [readme, *map(_script, sorted((ROOT / "examples").glob("*.py")))]


def _script(path: pathlib.Path) -> Borrowed:
    source, code = _from_top(path), path.read_text()
    about = (ast.get_docstring(ast.parse(code)) or path.stem).splitlines()[0]
    page = str(pathlib.Path(source).with_suffix(".md"))
    return Borrowed(page, source, f"# {path.stem}\n\n{about}\n\n```python\n{code}```\n")


def _notebook(path: pathlib.Path) -> list[Borrowed]:
    """The notebook as it was committed, outputs included, and its pictures."""
    blocks: list[str] = []
    pictures: list[Borrowed] = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(source)
            continue
        blocks.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}_{len(pictures) + 1}.png"
                image = base64.b64decode(data["image/png"])
                pictures.append(
                    Borrowed(f"tutorials/{name}", f"{_from_top(path)}/{name}", data=image)
                )
                blocks.append(f"![picture {len(pictures)} of the notebook]({name})")
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                blocks.append(f"```text\n{text.rstrip()}\n```")
    return [
        Borrowed(f"tutorials/{path.stem}.md", _from_top(path), "\n\n".join(blocks)),
        *pictures,
    ]


def _text(source: str) -> str:
    return (ROOT / source).read_text()


def _from_top(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))
