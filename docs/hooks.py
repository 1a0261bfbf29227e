"""What MkDocs is told while it builds the site: borrowed pages, and links from code to the API."""

import pathlib
import re
from typing import Any

import borrowed
import equations
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PACKAGE = "zovh_jax"
NOT_LINKED = r"<pre.*?</pre>|<h\d.*?</h\d>|<a .*?</a>"
CODE = re.compile(rf"({NOT_LINKED})|<code>([A-Za-z_][\w.]*)(\([^<()]*\))?</code>", re.DOTALL)
COMMON = ("ask", "bounded", "explain", "grad", "inverse", "laplace", "query", "solve", "tell")
"""Names that are words too: linked with their ``zo.`` only."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fills in entries of the navigation such as "benchmarks/*", and drops those without pages."""
    own = pathlib.Path(config.docs_dir)
    pages = [one.page for one in borrowed.everything() if one.text is not None]
    pages += [str(path.relative_to(own)) for path in own.rglob("*.md")]
    config.nav = _filled(
        config.nav or [], sorted(pages, key=lambda page: (_folder_first(page), page))
    )
    return config


def _folder_first(page: str) -> bool:
    return not page.endswith("index.md")


def _filled(nav: list[Any], pages: list[str]) -> list[Any]:
    filled: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            (name, inside), *_ = entry.items()
            inside = _filled(inside, pages) if isinstance(inside, list) else inside
            filled += [{name: inside}] if inside else []
        elif entry.endswith("/*"):
            filled += [page for page in pages if page.startswith(entry.removesuffix("*"))]
        else:
            filled.append(entry)
    return filled


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the borrowed pages and pictures."""
    for one in borrowed.everything():
        content = one.data if one.text is None else one.text
        if content is None:
            path = str(borrowed.ROOT / one.source)
            files.append(File.generated(config, one.page, abs_src_path=path))
        else:
            files.append(File.generated(config, one.page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **kwargs: object) -> str:
    """Puts the tables of equations and sources into their page."""
    if page.file.src_uri == "equations.md":
        for name, table in equations.tables().items():
            markdown = markdown.replace(f"<!-- {name} -->", table)
    return markdown


def on_page_content(html: str, page: Page, **kwargs: object) -> str:
    """Links code that is a public name, such as ``zo.zoar``, to where it is documented."""
    module = pathlib.Path(page.file.src_uri).stem if page.file.src_uri.startswith("api/") else ""

    def link(match: re.Match) -> str:
        identifier = None if match[1] else _identifier(match[2], module)
        if identifier is None:
            return match[0]
        return f'<autoref identifier="{identifier}" optional>{match[0]}</autoref>'

    return CODE.sub(link, html)


def on_post_build(config: MkDocsConfig) -> None:
    """Keeps the search's index as a script too: all that pages opened as files can load."""
    search = pathlib.Path(config.site_dir) / "search"
    index = (search / "search_index.json").read_text()
    (search / "search_index.js").write_text(f"var __index = {index}")


def _identifier(name: str, module: str) -> str | None:
    """Where a name is documented: "zovh_jax.zoar" for "zo.zoar" or "zoar"; None for other names.

    Args:
      name: as it is written.
      module: the public module that the page documents, where it does.
    """
    public = reference.public()
    short = name.removeprefix("zo.")
    if short == name:
        inner = f"{module}.{name}"
        if inner not in public and name in COMMON:
            return None
        homes = [full for full in public if full.endswith(f".{name}")]
        if "_" not in name and name.islower():
            homes = []  # may be a word of its own
        short = next((full for full in (inner, name, *homes[:1]) if full in public), name)
    return f"{PACKAGE}.{short}" if short in public else None
