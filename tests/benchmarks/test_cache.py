"""Files kept between runs: whole or absent, mended when bad, shared by runs at once."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks.common import cache

ROOT = Path(cache.__file__).parents[2]
WRITER = """
import sys
from pathlib import Path
from benchmarks.common import cache

path, letter = Path(sys.argv[1]), sys.argv[2].encode()
for i in range(200):
    cache.write(path, cache.sealed(letter * (1 + 5000 * (i % 7))))
    assert len(set(cache.kept(path, lambda: b"never made"))) == 1
"""


def unmade():
    raise AssertionError("made again")


def test_a_file_is_made_once(tmp_path):
    path = tmp_path / "deep" / "file"
    assert cache.kept(path, lambda: b"content") == b"content"
    assert cache.kept(path, unmade) == b"content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign"])
def test_a_bad_file_is_named_and_made_again(damage, tmp_path, capsys):
    path = tmp_path / "file"
    cache.kept(path, lambda: bytes(range(256)))
    whole = path.read_bytes()
    flipped = whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
    bad = {"empty": b"", "cut": whole[:-1], "flipped": flipped, "foreign": b"another file" * 9}
    path.write_bytes(bad[damage])
    assert cache.kept(path, lambda: b"new") == b"new"
    (line,) = capsys.readouterr().out.splitlines()
    assert str(path) in line and "again" in line
    assert cache.kept(path, unmade) == b"new"
    assert not capsys.readouterr().out


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    cache.write(path, b"old")

    def full(*_):
        assert path.read_bytes() == b"old"  # nothing of the new one is in its place
        raise OSError("no space left on device")

    for name in ("os.replace", "pathlib.Path.write_bytes"):
        with monkeypatch.context() as patch:
            patch.setattr(name, full)
            with pytest.raises(OSError, match="no space"):
                cache.write(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


def test_two_runs_that_make_the_same_file_each_get_a_whole_one(tmp_path):
    path, both, found = tmp_path / "file", threading.Barrier(2), {}

    def run(content):
        def make():
            both.wait(timeout=30)  # neither has written yet
            return content

        found[content] = cache.kept(path, make)

    threads = [threading.Thread(target=run, args=(c * 10**5,)) for c in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(content == got for content, got in found.items()) and len(found) == 2
    assert cache.kept(path, unmade) in found
    assert list(tmp_path.iterdir()) == [path]


def test_two_processes_that_write_and_read_never_meet_half_a_file(tmp_path):
    path = tmp_path / "file"
    cache.write(path, cache.sealed(b"x"))
    command = [sys.executable, "-c", WRITER, str(path)]
    runs = [subprocess.Popen([*command, letter], cwd=ROOT) for letter in "ab"]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]
