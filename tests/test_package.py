"""What `import compvae_fast` brings: little at once, everything by name when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import compvae_fast


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_is_light():
    assert run("import sys, compvae_fast; print('torch' in sys.modules, 'numpy' in sys.modules)") == "False False"


def test_names_are_listed_and_found():
    for name in dir(compvae_fast):
        assert getattr(compvae_fast, name) is not None
    assert compvae_fast.CompVAE.__name__ == "CompVAE"
    with pytest.raises(AttributeError, match="^module 'compvae_fast' has no attribute 'nothing'$"):
        _ = compvae_fast.nothing


@pytest.mark.parametrize("first", [
    "import compvae_fast",
    "import compvae_fast.backends",
    "from compvae_fast import backends",
    "from compvae_fast.backends import resolve",
    "import compvae_fast.ops",
    "from compvae_fast import use_backend",
])
def test_backends_is_a_function_and_a_module_whatever_is_imported_first(first):
    assert run(f"""
{first}
import compvae_fast
from compvae_fast.backends import backends, use_backend
assert compvae_fast.backends() == backends() and compvae_fast.backends()["reference"].available
assert compvae_fast.use_backend is use_backend
import compvae_fast.backends as module
assert module is compvae_fast.backends and module() == backends()
with compvae_fast.use_backend("reference"):
    assert module.requested() == "reference"
print("right")""") == "right"
