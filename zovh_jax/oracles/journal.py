"""A file with all values that a run was told, from which it can be made again to the bit.

One line for each time that values were told: a checksum and a JSON list of the round's number and
the values. The first line says which run it is. Lines are appended and synced before the step that
uses them is taken, so that after a crash at any instant only the last line can be torn.
"""

import hashlib
import json
import os
import re
import weakref
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from zovh_jax._jaxprs import constants_of
from zovh_jax._types import PyTree
from zovh_jax.oracles.calls import logger
from zovh_jax.packing import pack

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

VERSION = 1
"""Of the file's format."""
HEAD = b'{"zovh_jax journal": '
"""What the first line begins with, after its checksum."""


class Journal:
    """An open file, and what was in it.

    Args:
      path: of the file; it is made if it is not there.
      run: what identifies the run: a dict of strings.

    Attributes:
      entries: (number, values) of all complete lines that were there.

    Raises:
      ValueError: for a file of another run, or one that is damaged before its last line.
    """

    def __init__(self, path: str | os.PathLike, run: dict[str, str]):
        self.path = os.fspath(path)
        head = {"zovh_jax journal": VERSION, **run}
        self._file = open(self.path, "a+b")  # noqa: SIM115 - closed by close()
        try:
            _lock(self._file, self.path)
            _open.add(self)
            lines, end = self._lines()
            if lines:
                self._check(lines[0], head)
            self._file.truncate(end)
            self.entries = [(int(number), values) for number, values in lines[1:]]
            if not lines:
                self._write(head)
                _sync_folder(self.path)
        except BaseException:
            self.close()
            raise

    def append(self, number: int, values: Iterable[float]) -> None:
        """Adds a line; it is on the disk when this returns."""
        self._write([number, [float(x) for x in values]])

    def close(self) -> None:
        """Closes the file."""
        _open.discard(self)
        self._file.close()

    def let_go(self) -> None:
        """Closes the file in a process that was forked: what was not yet written is not its."""
        self._file.raw.close()

    def _write(self, content: Any) -> None:
        text = json.dumps(content).encode()
        self._file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _lines(self) -> tuple[list[Any], int]:
        """The contents of the lines, and where the last whole one ends."""
        self._file.seek(0)
        lines: list[Any] = []
        end = 0
        for number, line in enumerate(self._file, 1):
            content = _content(line)
            if content is None:
                if number == 1 and not _may_be_a_head(line):
                    raise ValueError(
                        f"{self.path} is no journal of zovh_jax, and is left as it is: pass "
                        "another path."
                    )
                if self._file.read(1):
                    raise ValueError(
                        f"the journal {self.path} is damaged in line {number}: its checksum is "
                        "wrong. Restore it, or remove this line and all after it."
                    )
                break  # torn: the run stopped while it was written
            lines.append(content)
            end += len(line)
        return lines, end

    def _check(self, found: Any, head: dict[str, Any]) -> None:
        if not isinstance(found, dict) or found.get("zovh_jax journal") != VERSION:
            raise ValueError(f"{self.path} is no journal of this version of zovh_jax.")
        different = [key for key in head if found.get(key) != head[key]]
        if found.get("jax") != head.get("jax"):
            logger.warning(
                "the journal %s was written with JAX %s, and this is %s: whether the optimiser is "
                "the same is not checked, and the last digits may differ.",
                *(self.path, found.get("jax"), head.get("jax")),
            )
            # Another version may write the same program otherwise.
            different = [key for key in different if key not in ("jax", "optimizer")]
        if different:
            raise ValueError(
                f"the journal {self.path} is that of another run: it differs in "
                f"{' and '.join(different)}. Pass what it was made with, or another path."
            )


_open: weakref.WeakSet[Journal] = weakref.WeakSet()


def _in_forked() -> None:
    """Lets go of the locks, which the workers of a pool would keep after this process is killed."""
    for journal in list(_open):
        journal.let_go()
    _open.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_forked)


def _content(line: bytes) -> Any:
    """What a line says; None if it is torn or damaged."""
    if not line.endswith(b"\n") or line[8:9] != b" ":
        return None
    checksum, text = line[:8], line[9:-1]
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    return json.loads(text)


def _may_be_a_head(line: bytes) -> bool:
    """Whether a line that is torn or damaged is what is left of a journal's first line."""
    hexadecimal = re.fullmatch(rb"[0-9a-f]*", line[:8]) is not None
    return hexadecimal and (b" " + HEAD).startswith(line[8 : 9 + len(HEAD)])


def _lock(file: Any, path: str) -> None:
    """Keeps the file for this process, as long as it is open."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"the journal {path} is in use by another run.") from error
        except OSError as error:  # some file systems have no locks
            logger.warning(
                "the journal %s cannot be locked: %r. Run only one at a time.", path, error
            )


def _sync_folder(path: str) -> None:
    """Makes sure that a new file's name is on the disk too."""
    if os.name == "posix":
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def identity(program: Any, state: Any, params: PyTree) -> dict[str, str]:
    """What identifies a run: its optimiser's program, the state at the start, and the start.

    Args:
      program: the update as a closed jaxpr.
      state: the first state, with the key in it.
      params: the first parameters.
    """
    text = re.sub(r"0x[0-9a-f]+", "", str(program))  # where objects are in memory
    return {
        "jax": jax.__version__,
        "optimizer": _digest([text.encode(), *map(_bytes, constants_of(program))]),
        "key and state": _digest_of(state),
        "start": _digest_of(params),
    }


def _digest_of(tree: PyTree) -> str:
    arrays = pack(tree)
    parts = []
    for name, array in arrays.items():
        parts += [f"{name} {array.dtype} {array.shape}".encode(), np.asarray(array).tobytes()]
    return _digest(parts)


def _bytes(x: Any) -> bytes:
    return np.asarray(next(iter(pack(x).values()))).tobytes() if np.size(x) else b""


def _digest(parts: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]


__all__ = ["Journal", "identity"]
