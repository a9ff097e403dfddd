"""Small files that a plug-in leaves in another project's folders."""

from __future__ import annotations

from pathlib import Path


def leave(folder: str | Path, files: dict[str, str]) -> list[Path]:
    """Write files, by path within an existing folder; those that are there already with that text stay.

    Raises ValueError where the folder is not there, or where a file holds something else: then nothing is written.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"folder: expected an existing folder, got {folder}")
    paths = {root / name: text for name, text in files.items()}
    for path, text in paths.items():
        if path.exists() and path.read_text() != text:
            raise ValueError(f"folder: expected no other {path.relative_to(root)} in {folder}, got one with other text")
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(paths)
