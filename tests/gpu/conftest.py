"""What every test on a GPU needs: a device, and a backend that runs on it."""

import pytest
import torch

import compvae_fast

BACKENDS = [name for name, backend in compvae_fast.backends().items() if backend.device == "cuda"]


def pytest_addoption(parser):
    parser.addoption("--share", default="0/1", help="of the tests on a GPU, the I-th of N shares: I/N")


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config, items):
    first, count = map(int, config.getoption("share", "0/1").split("/"))
    items[:] = items[first::count]


@pytest.fixture(autouse=True)
def _a_device(request):
    """One that is there, and is so after the test: a kernel that faults leaves none to the process."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    yield
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        pytest.exit(f"{request.node.nodeid} lost the device: {error}", returncode=pytest.ExitCode.TESTS_FAILED)


@pytest.fixture(params=BACKENDS)
def gpu_backend(request):
    """Each backend of CUDA devices in turn; skipped, with the reason, where it is missing."""
    if reason := compvae_fast.backends()[request.param].reason:
        pytest.skip(f"{request.param}: {reason}")
    with compvae_fast.use_backend(request.param):
        yield request.param
