"""`make gpu-check`, as far as it goes without a GPU: what it runs, what it chooses from, how it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import emulation
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from compvae_fast import backends
from compvae_fast.data import sines
from compvae_fast.distributed.shards import kernels_of
from compvae_fast.models import CompVAE
from compvae_fast.ops.correlated_normal_log_prob import OPERATION
from compvae_fast.reference.shards import Shard
from compvae_fast.registry import RECORDS
from compvae_fast.training import TrainingConfig

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import training_step  # noqa: E402
from gpu_check import check, exercise, measure  # noqa: E402


def row(by, median, operation="multiset_kl", shapes="few parts", **others):
    return {"operation": operation, "class": shapes, "by": by, "median": median, **others}


def test_the_faster_backend_is_chosen_for_each_class():
    rows = [row("cuda", 2.0), row("triton", 1.0), row("cuda", 1.0), row("triton", 8.0), row("eager", 1e-9),
            row("cuda", 3.0, shapes="ragged"), row("triton", 2.0, shapes="ragged"),
            row("triton", 1.0, operation="prior_sum_counts", shapes="rows"), row("cuda", 0.1, shapes="float64"),
            row("cuda", None, shapes="float64", failed="told"), row("triton", 1.0, shapes="float64"),
            row("cuda", None, shapes="many parts", failed="told")]
    for failed in rows[-3], rows[-1]:
        del failed["median"]
    assert measure.choice(rows) == {"multiset_kl": {"few parts": "cuda", "ragged": "triton", "float64": "triton"},
                                    "prior_sum": {"rows": "triton"}}


def test_the_table_is_what_calls_go_by(monkeypatch):
    """And what it does not name goes in the order of preference; shards go where whole sets would."""
    by_layout = {"ragged": "triton"}
    choices = {"multiset_kl": by_layout, "correlated_normal_log_prob": by_layout}
    monkeypatch.setattr(backends, "gpu_choice", lambda: {"choices": choices})
    monkeypatch.setattr(backends, "implementation", lambda *names: names)
    monkeypatch.setattr(backends, "_reason", lambda name: "")
    monkeypatch.setitem(backends._KNOWN, "triton", ("cuda", lambda: "", "compvae_fast.cuda"))
    backends._preference.cache_clear()
    backends._fastest.cache_clear()
    try:
        assert backends.resolve("multiset_kl", "cuda", "ragged") == "triton"
        assert backends.resolve("multiset_kl", "cuda", "few parts") == "cuda"
        assert backends.resolve("multiset_kl", "cpu") == "cpu"
        with FakeTensorMode():
            parts, rows, offsets = (torch.empty(shape, device="cuda") for shape in ((2, 3, 4), (6, 4), (3,)))
        for part, ends, backend in ((parts, None, "cuda"), (rows, offsets, "triton")):
            shard = Shard(ends, None, "unit", offsets, None, None, offsets)
            assert kernels_of(OPERATION, "its_shard", (part,) * 4, shard) == (backend, "its_shard")
    finally:
        backends._preference.cache_clear()
        backends._fastest.cache_clear()


def test_the_stored_table_says_whether_it_was_measured():
    found = backends.gpu_choice()
    assert set(found) == {"measured", "choices"} and (found["measured"] is None) == (found["choices"] == {})
    known = {record.operation for record in RECORDS.values()}
    assert set(found["choices"]) <= known
    assert {name for row in found["choices"].values() for name in row.values()} <= {"cuda", "triton"}


def test_every_case_has_a_class():
    from compvae_fast.ops._library import shapes_of

    for name, shape, dtype in measure.cases():
        record = RECORDS[name]
        arguments = record.arguments(shape.reduced(4096) if shape.elements > 4096 else shape, dtype=dtype)
        assert shapes_of(record.registered, [arguments.get(a.name) for a in record.registered.all_arguments])


def test_every_kernel_is_exercised(capsys):
    if reason := emulation.why_not():
        pytest.skip(reason)
    with emulation.emulated():
        exercise.main("cpu")
    assert capsys.readouterr().out == "every kernel ran\n"


def test_a_step_that_fails_or_takes_too_long_is_told(tmp_path, capsys, monkeypatch):
    """Each has its own seconds and what those before it left; stopped, it may still leave its results."""
    monkeypatch.setattr(check, "KEPT", dict.fromkeys(("good", "bad", "missing", "long", "later"), 1))
    leaves = "import signal, time\ntry: time.sleep(60)\nfinally: print('left')"
    steps = check.Check(tmp_path / "out", limit=4.0)
    assert steps.run("good", sys.executable, "-c", "print(1)")
    assert not steps.run("bad", sys.executable, "-c", "print('words'); raise SystemExit(3)")
    assert not steps.run("missing", tmp_path / "nothing")
    assert not steps.run("long", sys.executable, "-c", leaves)
    assert {name: step["passed"] for name, step in steps.steps.items()} == {
        "good": True, "bad": False, "missing": False, "long": False}
    told = capsys.readouterr().out
    assert "words" in told and "nothing cannot be run" in told and "left\n" in told and "stopped after" in told
    assert json.loads((tmp_path / "out" / "check.json").read_text()) == steps.steps
    assert steps.summary() == "bad, missing, long"
    assert 97 < check.Check(tmp_path, limit=100.0).left_for("missing") < 98


def test_the_seconds_of_all_steps_are_within_the_limit():
    assert sum(check.KEPT.values()) <= check.LIMIT and check.LIMIT + check.GRACE < 540


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_leaves_nothing_running(tmp_path, number):
    """No child of a step, and what came before is written down."""
    code = """
import sys
from pathlib import Path
from gpu_check import check
check.WORK, check.architecture = Path(sys.argv[1]) / "work", lambda: "90"
sleeper = "import time; print(1, flush=True); time.sleep(600)"
child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleeper!r}]).wait()"
def steps(found, device):
    found.run("build", sys.executable, "-c", "")
    found.run("tests-cuda", sys.executable, "-c", child)
check.steps, sys.argv[1:] = steps, ["--out", sys.argv[1] + "/out"]
check.main()
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}", "COMPVAE_TEST_MARK": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE,
                               text=True)
    told = tmp_path / "out" / "tests-cuda.txt"
    until = time.monotonic() + 60
    while not (told.exists() and told.read_text() == "1\n"):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    again = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True)
    assert again.stderr == "gpu-check: another one is at work in this folder\n" and told.read_text() == "1\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "1 of 2 steps passed" in output and "stopped by Ctrl-C" in output
    steps = json.loads((tmp_path / "out" / "check.json").read_text())
    assert {name: step["passed"] for name, step in steps.items()} == {"build": True, "tests-cuda": False}
    assert not [p for p in Path("/proc").glob("[0-9]*/environ") if str(tmp_path).encode() in readable(p)]


def readable(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_its_tests_are_shared_out_over_processes(tmp_path):
    """Each runs once; without a device each is skipped."""
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    wanted = "compiled_whole or graph or repeats or streams or beyond or waits or wrong"
    code = "from gpu_check import tests; tests.PROCESSES = 3; import sys; tests.main(*sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}", "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "found", "-k", wanted], cwd=ROOT, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0 and "ended with [0, 0, 0]" in done.stdout, done.stdout
    reports = [(tmp_path / f"found-{i}.xml").read_text() for i in range(3)]
    names = [re.findall(r'<testcase [^>]*?\bname="([^"]*)"', report) for report in reports]
    every = sum(names, [])
    assert len(every) == len(set(every)) == 18 and max(map(len, names)) - min(map(len, names)) <= 1


def test_what_an_earlier_run_left_is_gone(tmp_path):
    for name in ("gpu.json", "gpu.md", "build.txt", "kept.csv"):
        (tmp_path / name).write_text("old")
    check.Check(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.csv"]


def test_without_a_device_it_ends_with_the_reason(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    command = [sys.executable, "-m", "gpu_check.check", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT / "bench", env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "gpu-check: there is no CUDA device here\n"
    assert not (tmp_path / "out").exists()


def test_it_needs_no_package_that_it_does_not_name():
    """Of a machine with no more than PyTorch, NumPy, pybind11 and what tests; a step of training too."""
    absent = ("jsonargparse", "matplotlib", "numba", "pandas", "safetensors", "tqdm", "yaml")
    code = f"""
import dataclasses, sys
sys.modules.update(dict.fromkeys({absent}))
import training_step
from compvae_fast.training import TrainingConfig
from gpu import test_operations
from gpu_check import build, check, exercise, measure
config = TrainingConfig.from_preset("sines-small", threads=1)
config = dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, batch=4))
found, = list(training_step.measured(config, 0.0, compiled=False, parts=3, copied=1 << 20))[-1:]
print(list(found))
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "plain eager" in done.stdout, done.stderr


def test_each_row_is_kept_whatever_follows(tmp_path, monkeypatch):
    """Rows that failed are in the table, and a device that is lost costs its case alone."""
    case = {"operation": "multiset_kl", "shape": [1, 2, 3], "layout": "dense", "dtype": "float32", "pass": "forward"}
    rows = [{**case, "by": "cuda", "median": 1e-3, "bytes": 2e9}, {**case, "by": "triton", "failed": "lost"}]
    cases = [(name, measure.CLASSES[0], torch.float32) for name in ("first", "second", "third")]
    given = {"first": rows, "second": rows[:1], "third": []}
    monkeypatch.setattr(measure, "cases", lambda: cases)
    monkeypatch.setattr(measure, "measured", lambda name, *_: iter([{**row, "class": name} for row in given[name]]))
    monkeypatch.setattr(measure, "machine", lambda: {"backends": {"cuda": "there", "triton": "not there"}})
    monkeypatch.setattr(measure, "copy_bandwidth", lambda budget: 4e12)
    lost = iter([False, True, False])
    monkeypatch.setattr(measure, "device_lost", lambda: "gone" if next(lost) else "")

    class Replaced(Exception):
        pass

    def execv(program, arguments):
        raise Replaced(arguments[1:])

    monkeypatch.setattr(measure.os, "execv", execv)
    monkeypatch.setattr(measure.torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(sys, "argv", ["measure", "--out", str(tmp_path), "--seconds", "60", "--choose"])
    before = backends.GPU_CHOICE.read_text()
    with pytest.raises(Replaced) as replaced:
        measure.main()
    arguments = replaced.value.args[0]
    assert arguments[:2] == ["-m", "gpu_check.measure"] and arguments[-4:-1] == ["--skip", "1", "--seconds"]
    monkeypatch.setattr(sys, "argv", ["measure", *arguments[2:]])
    with pytest.raises(SystemExit, match="1 passes of cuda and triton failed"):
        measure.main()
    kept = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row["class"] for row in kept] == ["first", "first", "second"]
    told = (tmp_path / "gpu.md").read_text()
    assert told.count("| cuda | 1.000 | 2.00 | 50% |") == 2 and "| triton | lost | | |" in told
    assert backends.GPU_CHOICE.read_text() == before  # of one backend there is no choice


def test_products_are_counted_and_done_alone():
    layer, x = torch.nn.Linear(3, 4), torch.randn(5, 3, requires_grad=True)
    with training_step.Products() as counted:
        (layer(x) @ torch.randn(4, 2)).sum().backward()
        torch.nn.functional.conv1d(torch.randn(1, 2, 9), torch.randn(3, 2, 4))
    found = Counter()
    for (function, arguments), count in counted.found.items():
        shapes = tuple(a.shape for a in arguments if isinstance(a, training_step.Described))
        found[function.overloadpacket.__name__, shapes] += count
    assert found == {("addmm", ((4,), (5, 3), (3, 4))): 1, ("mm", ((5, 4), (4, 2))): 1,
                     ("mm", ((5, 2), (2, 4))): 1,  # to what went into the second product
                     ("mm", ((5, 4), (4, 3))): 1, ("mm", ((4, 5), (5, 3))): 1,
                     ("convolution", ((1, 2, 9), (3, 2, 4))): 1}
    with training_step.Products() as again:
        training_step.products_alone(counted.found, torch.device("cpu"))()
    assert again.found == counted.found


def test_a_step_is_timed_in_every_way():
    config = TrainingConfig.from_preset("sines-small", threads=1)
    config = replace(config, recipe=replace(config.recipe, batch=4), model=replace(config.model, hidden=8))
    *_, found = training_step.measured(config, budget=0.0, compiled=False, parts=3, copied=1 << 20)
    assert list(found) == ["launched", "bare", "products", "optimiser", "plain eager"]
    assert all(value > 0 for value in found.values()) and found["products"] < found["launched"]
    assert f"| launched | {found['launched'] * 1e3:.3f} |" in training_step.table(found, config)


def test_the_plain_model_has_the_losses_of_the_other():
    """Averaged over draws of its noise; the parts' divergence, which has none, exactly."""
    config = TrainingConfig.from_preset("sines-small")
    model = CompVAE.from_config(replace(config.model, hidden=8)).eval()
    batch = sines.draw(64, 3, seed=1, k_per_batch=1)
    with torch.no_grad():
        fused = model.loss(batch.x, batch.labels, seed=1)
        with training_step.plain_operations():
            plain = model.loss(batch.x, batch.labels, seed=1)
    torch.testing.assert_close(plain.w, fused.w, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain.x.mean(), fused.x.mean(), rtol=0.2, atol=1.0)
