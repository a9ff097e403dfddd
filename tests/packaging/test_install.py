"""The package, installed in an environment of its own: with native kernels, and where they could not be built."""

import json
import sys
from pathlib import Path

import pytest
from installing import NO_COMPILER, run

pytestmark = pytest.mark.packaging

# One operation on the default backend, beside the reference; and where the package was found.
REPORT = """
import json, torch, compvae_fast, compvae_fast.kernels
from compvae_fast import backends, ops
torch.manual_seed(0)
inputs = [torch.randn(2, 3, 70) for _ in range(5)]
found = ops.posterior_sum_and_kl(*inputs, seed=1)
with compvae_fast.use_backend("reference"):
    expected = ops.posterior_sum_and_kl(*inputs, seed=1)
try:
    compvae_fast.set_backend("cpu")
    refusal = ""
except ValueError as error:
    refusal = str(error)
print(json.dumps({
    "reason": compvae_fast.backends()["cpu"].reason,
    "served by": backends.resolve("posterior_sum_and_kl", "cpu"),
    "next": "numba" if backends()["numba"].available else "reference",
    "equal": all(torch.allclose(f, e, rtol=1e-4, atol=1e-4) for f, e in zip(found, expected)),
    "refusal": refusal,
    "package": compvae_fast.__file__,
    "kernels": compvae_fast.kernels.__file__,
}))
"""


def report(installed):
    return json.loads(installed.python(REPORT))


@pytest.fixture(scope="module")
def native(wheels, environment):
    """The native wheel, installed; neither torch nor NumPy is there yet."""
    installed = environment()
    installed.install(wheels["native"])
    return installed


def test_the_native_module_needs_neither_torch_nor_numpy(native):
    code = (
        "import importlib.util, sys\n"
        "from compvae_fast import _native\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "assert importlib.util.find_spec('torch') is None\n"
        "print(*_native.instruction_sets())"
    )
    assert native.python(code).split()[-1] == "portable"


def test_the_native_wheel_runs(native):
    native.share_torch()
    found = report(native)
    assert (found["reason"], found["served by"], found["equal"], found["refusal"]) == ("", "cpu", True, "")
    assert Path(found["package"]) == native.packages / "compvae_fast" / "__init__.py"
    assert Path(found["kernels"]) == native.packages / "compvae_fast" / "kernels" / "__init__.py"
    assert "reference" in run(native.bin / "compvae_fast", "info", cwd=native.folder)


def test_a_damaged_native_module_gives_the_loaders_words(wheels, environment):
    installed = environment()
    installed.install(wheels["native"])
    installed.share_torch()
    (module,) = (installed.packages / "compvae_fast").glob("_native.*")
    module.write_bytes(b"no shared object")
    found = report(installed)
    assert "cannot be loaded" in found["reason"] and module.name in found["reason"]
    assert (found["served by"], found["equal"]) == (found["next"], True)
    assert found["reason"] in found["refusal"]


@pytest.mark.parametrize(
    ("kind", "words"), [("without", "No CMAKE_CXX_COMPILER could be found"), ("without again", "/nonexistent/c++")]
)
def test_without_a_compiler_the_next_backend_serves_and_the_reason_is_told(wheels, environment, kind, words):
    installed = environment()
    installed.install(wheels[kind])
    installed.share_torch()
    found = report(installed)
    assert found["reason"].startswith("the native kernels were not built: ") and words in found["reason"]
    assert (found["served by"], found["equal"]) == (found["next"], True)
    assert "'cpu' is not available" in found["refusal"] and words in found["refusal"]
    installed.install("--force-reinstall", wheels["native"])
    found = report(installed)
    assert (found["reason"], found["served by"], found["equal"]) == ("", "cpu", True)


def test_pip_installs_the_tree_in_its_own_build_environment(tree, environment):
    installed = environment()
    installed.install(tree, **NO_COMPILER)
    installed.share_torch()
    assert "No CMAKE_CXX_COMPILER could be found" in report(installed)["reason"]


@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_an_editable_install_serves_the_tree_and_its_kernels(tree, environment, mode):
    installed = environment()
    options = ["--config-settings", f"editable_mode={mode}", "--editable", tree]
    installed.install(*options, CXX="/nonexistent/c++")
    installed.share_torch()
    found = report(installed)
    assert "/nonexistent/c++" in found["reason"] and found["equal"]
    assert Path(found["package"]).resolve() == tree / "compvae_fast" / "__init__.py"
    assert Path(found["kernels"]).resolve() == tree / "kernels" / "__init__.py"


def test_a_build_that_must_be_native_fails_aloud(tree, tmp_path):
    command = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, tree)
    told = run(*command, cwd=tmp_path, fails=True, COMPVAE_FAST_REQUIRE_NATIVE=1, CXX="/nonexistent/c++")
    assert "the native kernels were not built: " in told and "/nonexistent/c++" in told
    assert not list(tmp_path.iterdir())
