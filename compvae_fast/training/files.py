"""Files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .errors import BadInput, Failure


def reason(error: OSError) -> str:
    """What the operating system says, without the number and the file's name."""
    return error.strerror or str(error)


def temporary_name(path: Path, owner: str = "") -> Path:
    """Where the new content of ``path`` is written before it takes the name: one name per file and owner."""
    return path.with_name(f".{path.name}{owner and '.' + owner}.tmp")


def write_atomically(path: Path, data: bytes, *, owner: str = "") -> None:
    """Write ``data`` to ``path`` so that a kill or a full disk leaves the old content or the new, whole.

    Written to a hidden file beside it, flushed to the disk, renamed, and the folder flushed too. Processes that may
    write the same file name themselves as ``owner``. Raises Failure with the cause; the temporary file is then gone
    and ``path`` untouched.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.bin"
    >>> write_atomically(path, b"whole")
    >>> path.read_bytes()
    b'whole'
    """
    temporary = temporary_name(path, owner)
    try:
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)
    except OSError as error:
        raise Failure(f"cannot write {path}: {reason(error)}") from error


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, written atomically."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def new_output(path: Path, *, overwrite: bool) -> Path:
    """``path`` as a place for one new file; BadInput where it is taken or its folder is not there."""
    if path.is_dir():
        raise BadInput(f"--out: expected a file's name, got the folder {path}")
    if path.exists() and not overwrite:
        raise BadInput(f"--out: {path} exists already; choose another name or pass --overwrite")
    if not path.parent.is_dir():
        raise BadInput(f"--out: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"--out: the folder {path.parent} cannot be written")
    return path
