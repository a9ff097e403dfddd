"""What the sdist and the wheels hold."""

import tarfile
import zipfile
from email.parser import Parser

import pytest
from installing import ROOT

import compvae_fast

pytestmark = pytest.mark.packaging

REASON = "compvae_fast/_native_build_failure.txt"
CUDA_REASON = "compvae_fast/_cuda_build_failure.txt"


def sources(folder, *patterns):
    """The files under a folder of the checkout, as paths from its root."""
    files = (file for pattern in patterns for file in (ROOT / folder).rglob(pattern))
    return {file.relative_to(ROOT).as_posix() for file in files if "__pycache__" not in file.parts}


def native_modules(names):
    return [name for name in names if name.startswith("compvae_fast/_native.")]


def test_the_sdist_holds_what_it_is_built_from(sdist):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"setup.py", "pyproject.toml", "CMakeLists.txt", "Makefile", "README.md", "LICENSE"}
    wanted |= sources("csrc", "*.h", "*.cpp", "*.cu") | sources("kernels", "*.py")
    wanted |= sources("compvae_fast", "*.py", "*.j2", "*.json", "py.typed")
    assert wanted <= held
    assert not [name for name in held if name.endswith((".so", ".pyc", REASON, CUDA_REASON))]


def test_the_wheel_holds_every_module(wheels):
    names = set(zipfile.ZipFile(wheels["native"]).namelist())
    wanted = sources("compvae_fast", "*.py", "*.j2", "*.json", "py.typed")
    wanted |= {f"compvae_fast/{name}" for name in sources("kernels", "*.py")}
    assert wanted <= names
    unasked = {name for name in names - wanted if ".dist-info/" not in name}
    assert unasked == {*native_modules(names), CUDA_REASON}  # these wheels are built without CUDA


def test_each_wheel_holds_the_native_module_or_why_not(wheels):
    """A build leaves nothing of an earlier one behind."""
    for kind, path in wheels.items():
        names = zipfile.ZipFile(path).namelist()
        assert (len(native_modules(names)), REASON in names) == ((1, False) if kind == "native" else (0, True)), kind


def test_the_metadata(wheels):
    archive = zipfile.ZipFile(wheels["native"])
    (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(archive.read(path).decode())
    assert metadata["Version"] == compvae_fast.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    core = {requirement for requirement in metadata.get_all("Requires-Dist") if "extra ==" not in requirement}
    assert {requirement.rstrip("0123456789.").rstrip(">=") for requirement in core} == {"torch", "numpy"}
    assert metadata["License-Expression"] == "MIT"
