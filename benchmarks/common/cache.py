"""Files that take long to make, kept between runs.

A file is written beside its place and renamed, so that a reader meets the old one or the new one,
and two runs that make the same file do not disturb each other. A checksum at its end tells a file
that was damaged or cut short; such a file is reported and made again.
"""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".cache"
"""Where the commands keep such files unless they are told another place."""
CHECKSUM = hashlib.sha256().digest_size


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of a file, which is made where it is missing or bad.

    Args:
      path: the file's; its folder is made if missing.
      make: its content, from nothing.
    """
    if path.exists():
        content = unsealed(path.read_bytes())
        if content is not None:
            return content
        print(f"{path} is damaged or from another version: making it again.")
    content = make()
    write(path, sealed(content))
    return content


def write(path: Path, content: bytes) -> None:
    """Writes a whole file or nothing, whatever else writes or reads it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two writers must not share the temporary file either.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sealed(content: bytes) -> bytes:
    """The content with its checksum behind it."""
    return content + hashlib.sha256(content).digest()


def unsealed(content: bytes) -> bytes | None:
    """The content without its checksum, or None where the two do not agree."""
    inner = content[:-CHECKSUM]
    return inner if sealed(inner) == content else None
