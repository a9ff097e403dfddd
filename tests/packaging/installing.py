"""Running builds and installs, away from the checkout."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy
import torch

ROOT = Path(__file__).parents[2]
# No variable names a compiler, and the PATH has this Python's own programs alone: CMake, but no compiler.
NO_COMPILER = {"CXX": None, "PATH": Path(sys.executable).parent}


def run(*command, cwd, fails=False, **environment):
    """What a command prints; it must end as expected. A variable given as None is taken out of the environment."""
    variables = {**os.environ, **environment}
    variables = {name: str(value) for name, value in variables.items() if value is not None}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr if fails else done.stdout


class Environment:
    """A virtual environment of its own under a folder, without pip: this one's pip installs into it."""

    def __init__(self, folder: Path):
        self.folder = folder
        run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
        self.bin = folder / "venv" / "bin"
        paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
        self.packages = Path(sysconfig.get_path("platlib", vars=paths))

    def install(self, *arguments, **environment):
        """Install with pip, without requirements: these come from this Python's environment, see `share_torch`."""
        pip = (sys.executable, "-m", "pip", "--python", self.bin / "python", "install", "--no-deps")
        return run(*pip, *arguments, cwd=self.folder, **environment)

    def share_torch(self):
        """Lets the environment see torch, NumPy and the other libraries of this one, behind its own packages."""
        folders = {str(Path(library.__file__).parents[1]) for library in (torch, numpy)}
        (self.packages / "shared.pth").write_text("\n".join(sorted(folders)) + "\n")

    def python(self, code, **environment):
        """What a program prints, run away from the checkout."""
        environment = {"COMPVAE_FAST_BACKEND": None, "PYTHONPATH": None, **environment}
        return run(self.bin / "python", "-c", code, cwd=self.folder, **environment).strip()
