"""``python -m docs.run``: runs the pages' Python and puts what it prints, and draws, beside it.

A block of Python on a page goes on where the block before it ended. Where a block of ``text``
follows, that is what it prints. `tests/test_readme.py` runs the pages too, and fails where they
print something else.
"""

import contextlib
import io
import os
import pathlib
import re
import textwrap

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs" / "pages").rglob("*.md")))
CODE = re.compile(r"^( *)```python\n(.*?)^\1```\n(?:(\n\1```text\n).*?^\1```\n)?", re.DOTALL | re.M)


def ran(page: str, name: str) -> str:
    """The page with the outputs of its blocks; pictures are drawn into the working folder.

    Args:
      page: its markdown.
      name: what errors call it.
    """
    namespace = {"__name__": "__main__"}

    def block(match: re.Match) -> str:
        indent, code, text = match.groups()
        line = page[: match.start()].count("\n") + 1
        source = "\n" * line + textwrap.dedent(code)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, name, "exec"), namespace)
        if text is None:
            return match[0]
        fence = f"{indent}```python\n{code}{indent}```\n"
        return fence + text + textwrap.indent(printed.getvalue(), indent) + f"{indent}```\n"

    return CODE.sub(block, page)


def main() -> None:
    """Rewrites the pages whose code prints something else."""
    for path in PAGES:
        page = path.read_text()
        with contextlib.chdir(path.parent):
            new = ran(page, str(path))
        if new != page:
            path.write_text(new)
            print(f"{path.relative_to(ROOT)}: rewritten")


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "Agg")
    main()
