"""The command line's door: one clear line, and no traceback, where a command cannot do what was asked.

Exit codes: 0 done; 1 failed (a full disk, a damaged file, a run that diverged); 2 asked for what cannot be;
130 stopped by Ctrl-C; 143 stopped by SIGTERM.
"""

from __future__ import annotations

import os
import re
import sys
import warnings

PROGRAM = "compvae_fast"


def main(arguments: list[str] | None = None) -> int:
    """Run one command, ``arguments`` as in ``sys.argv[1:]``, and return its exit code."""
    try:
        from compvae_fast import commands
        from compvae_fast.training.errors import BadInput, Failure
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(PROGRAM):
            raise
        return _complain(f"{error.name} is not installed; the command line needs pip install 'compvae-fast[cli]'", 1)
    except KeyboardInterrupt:
        return _complain("stopped", 130)
    warnings.showwarning = _show_warning
    try:
        code = commands.run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return code
    except BadInput as error:
        return _complain(str(error), 2)
    except Failure as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return _complain("stopped", 130)
    except (MemoryError, RuntimeError) as error:
        if not _wants_memory(error):
            raise
        return _complain(f"not enough memory: {error}", 1)
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as error:
        if error.filename is None:
            _drop_output()
        return _complain(f"{error.filename or 'the output'}: {error.strerror or error}", 1)


def _drop_output() -> None:
    """Nobody takes what was printed; Python would complain of it once more when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _wants_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether an allocation failed: NumPy says so by the type, torch in words."""
    return isinstance(error, MemoryError) or re.search("can't allocate memory|out of memory", str(error)) is not None


def _complain(message: str, code: int) -> int:
    _say("error", message)
    return code


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    _say("warning", str(message))


def _say(kind: str, message: str) -> None:
    print(f"{PROGRAM}: {kind}: {' '.join(message.split())}", file=sys.stderr)
