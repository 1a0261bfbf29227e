"""``python -m notebooks``: runs every notebook and saves it with its outputs."""

import pathlib

import nbformat
from nbclient import NotebookClient


def execute(path: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook, executed; raises at the first cell that does."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    return notebook


def main() -> None:
    for path in sorted(pathlib.Path(__file__).parent.glob("*.ipynb")):
        print(path.name)
        notebook = execute(path)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # timestamps: noise in diffs
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
