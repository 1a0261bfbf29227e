"""The documentation site: it builds without a warning, links lead somewhere, nothing is missing."""

import collections
import html.parser
import os
import pathlib
import re
import subprocess
import sys
import types
import urllib.parse

import pytest

import zovh_jax as zo

ROOT = pathlib.Path(__file__).parents[1]


class Page(html.parser.HTMLParser):
    """What a page of the site has: names that can be linked, links, and files that it loads."""

    def __init__(self, text):
        super().__init__()
        self.names, self.links, self.loads = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.names += [attrs[key] for key in ("id", "name") if attrs.get(key)]
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        elif tag == "link" and attrs["rel"] in ("stylesheet", "icon"):
            self.loads.append(attrs["href"])
        elif attrs.get("src"):
            self.loads.append(attrs["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages by their path on the site, as `make docs` builds them."""
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--config-file", "docs/mkdocs.yml"]
    done = subprocess.run(
        [*build, "--site-dir", str(out)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr[-5000:]
    return out, {path.relative_to(out): Page(path.read_text()) for path in out.rglob("*.html")}


def test_links_lead_somewhere(site):
    out, pages = site
    names = {out / path: set(page.names) for path, page in pages.items()}
    lost = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or path.name == "404.html":  # whose links start at the site's root
                continue
            target = (out / path.parent / urllib.parse.unquote(parts.path)).resolve()
            target = out / path if not parts.path else target
            found = target / "index.html" if target.is_dir() else target
            anchor = urllib.parse.unquote(parts.fragment)
            if not found.exists() or (anchor and anchor not in names.get(found, {anchor})):
                lost.append((str(path), link))
    assert len(pages) > 40 and not lost


def test_nothing_is_fetched_from_elsewhere(site):
    _, pages = site
    elsewhere = {load for page in pages.values() for load in page.loads if "//" in load}
    assert not elsewhere


def test_every_public_name_is_documented_once(site):
    _, pages = site
    headings = collections.Counter(
        name for path, page in pages.items() if path.parts[0] == "api" for name in page.names
    )
    names = collections.defaultdict(list)  # of each object; solve and solvers.solve are one
    for module in [zo, *filter(is_module, map(vars(zo).get, zo.__all__))]:
        for name in module.__all__:
            names[id(getattr(module, name))].append(f"{module.__name__}.{name}")
    wrong = [some for some in names.values() if sum(headings[name] for name in some) != 1]
    assert not wrong


def is_module(member):
    return isinstance(member, types.ModuleType)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "examples/README.md"])
def test_links_between_files_lead_somewhere(name):
    path = ROOT / name
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
    assert not [link for link in links if not (path.parent / link).exists()]
