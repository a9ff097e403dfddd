"""The kernels under GCC's sanitizers, and the driver that runs them there, which must see what is planted.

Compiles every kernel again, twice for each instruction set: minutes. `make sanitize` runs it, `make test` does not.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEMORY, THREADS = "address;undefined", "thread"
pytestmark = [pytest.mark.sanitize,
              pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("g++")), reason="needs cmake and g++")]


def run(*words, timeout=1800):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module", params=[MEMORY, THREADS])
def sanitizers(request):
    return request.param


@pytest.fixture(scope="module")
def driver(sanitizers):
    """The driver, built under the sanitizers in build/, where a later run compiles only what changed."""
    folder = ROOT / "build" / f"sanitize-{sanitizers.partition(';')[0]}"
    for step in (["cmake", "-S", ROOT, "-B", folder, f"-DCOMPVAE_FAST_SANITIZE={sanitizers}",
                  "-DCMAKE_CXX_COMPILER=g++"], ["cmake", "--build", folder, "-j", str(os.cpu_count())]):
        done = run(*step)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "tests" / "csrc" / "driver"


@pytest.mark.parametrize("fault, seen", [
    ("write", "AddressSanitizer: use-after-poison"), ("read", "AddressSanitizer: use-after-poison"),
    ("align", "load of misaligned address"),
])
def test_what_is_planted_in_memory_is_caught(driver, sanitizers, fault, seen):
    if sanitizers != MEMORY:
        pytest.skip(f"{sanitizers} does not look for it")
    done = run(driver, "--plant", fault)
    assert done.returncode != 0 and seen in done.stderr


@pytest.mark.parametrize("fault, seen", [
    ("race", "ThreadSanitizer: data race"),
    # the guard bands see these two without a sanitizer's help
    ("write", "was written, outside of its"), ("read", "an output holds NaN"),
])
def test_what_is_planted_elsewhere_is_caught(driver, sanitizers, fault, seen):
    if sanitizers != THREADS:
        pytest.skip(f"{sanitizers} ends before the guard bands are looked at")
    done = run(driver, "--plant", fault)
    assert done.returncode != 0 and seen in done.stderr


def test_nothing_is_found_in_the_kernels(driver, sanitizers):
    done = run(driver, *(["--threads"] if sanitizers == THREADS else []))
    assert done.returncode == 0, done.stderr[:4000]
    assert done.stdout.endswith(": nothing found\n")
    print(done.stdout, end="")


def test_the_driver_refuses_what_it_does_not_know(driver):
    done = run(driver, "--plant", "roses")
    assert done.returncode == 1 and "expected write, read, align or race, got roses" in done.stderr
