"""An sdist, wheels from it with a compiler and without, and environments to install them in."""

import sys
import tarfile

import pytest
from installing import NO_COMPILER, ROOT, Environment, run


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Makes a new environment."""
    return lambda: Environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="session")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="session")
def tree(sdist, tmp_path_factory):
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("tree")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="session")
def wheels(tree, tmp_path_factory):
    """Wheels made one after the other from one tree: without a compiler, with one, and without one again."""
    made = {}
    for name, options, variables in (
        ("without", ["--no-isolation"], NO_COMPILER),
        ("native", [], {"COMPVAE_FAST_REQUIRE_NATIVE": 1, "CMAKE_ARGS": "-DCOMPVAE_FAST_CUDA=OFF"}),
        ("without again", ["--no-isolation"], {"CXX": "/nonexistent/c++"}),
    ):
        folder = tmp_path_factory.mktemp("wheel")
        run(sys.executable, "-m", "build", "--wheel", *options, "--outdir", folder, tree, cwd=folder, **variables)
        (made[name],) = folder.iterdir()
    return made
