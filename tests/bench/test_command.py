"""The command: its files, what it refuses, and what an interrupted run leaves."""

import csv
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from compvae_fast.bench import command, figures, page, store
from compvae_fast.bench.suite import Row, Settings, cases, finished, run
from compvae_fast.registry import matching
from compvae_fast.training.errors import BadInput, Failure


def bench(tmp_path, *operations, **changed):
    given = dict(chosen=["reference"], dtype="float32", seconds=1e-3, quick=True, out=str(tmp_path / "run"),
                 overwrite=False, tell=lambda line: None)
    return command.bench(list(operations), **given | changed)


def run_command(*arguments):
    return subprocess.run([sys.executable, "-m", "compvae_fast", "bench", *arguments], capture_output=True, text=True)


def test_command_writes_rows_table_and_page(tmp_path):
    out = tmp_path / "run"
    done = run_command("diag_normal_kl", "--quick", "--seconds", "0.001", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out / "index.html")
    held = json.loads((out / "rows.json").read_text())
    with open(out / "rows.csv") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(held["rows"]) > 4
    for line, row in zip(lines, held["rows"]):
        assert line["implementation"] == row["implementation"]
        assert float(line["median_ms"]) == pytest.approx(row["median_ms"], rel=1e-5)
        assert line["processor"] == held["facts"]["processor"] and line["torch"] == held["facts"]["torch"]
        assert line["date"] == row["date"] <= held["date"]
    text = (out / "index.html").read_text()
    for name in ("diag_normal_kl", "torch.distributions.Normal", "roofline.png", "scaling.png", held["date"]):
        assert name in text
    assert all((out / f"{name}.png").stat().st_size > 5000 for name in page.PICTURES)
    again = run_command("diag_normal_kl", "--quick", "--out", str(out))
    assert again.returncode == 2
    assert again.stderr == (f"compvae_fast: error: --out: {out} holds a run already; choose another folder, or pass "
                            "--resume or --overwrite\n")
    assert json.loads((out / "rows.json").read_text()) == held


@pytest.mark.parametrize("arguments, complaint", [
    ({"operations": ["kl"]}, "operation: expected one of posterior_sum_and_kl"),
    ({"chosen": ["abacus"]}, "--backend: expected one of .*, got 'abacus'"),
    ({"dtype": "int8"}, "--dtype: expected one of float32, .*, got 'int8'"),
    ({"seconds": -1.0}, "--seconds: expected a positive number, got -1.0"),
])
def test_command_refuses(tmp_path, arguments, complaint):
    operations = arguments.pop("operations", ["diag_normal_kl"])
    with pytest.raises(BadInput, match=complaint):
        bench(tmp_path, *operations, **arguments)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_other_files_stays_as_it_is(tmp_path):
    """A run of training, say, whose report has the page's name."""
    (tmp_path / "index.html").write_text("the report")
    for changed in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(BadInput, match="--out: .* holds other files; choose a new or empty folder"):
            bench(tmp_path, "diag_normal_kl", out=str(tmp_path), **changed)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "the report"


def test_no_time_at_all_is_not_the_default(tmp_path):
    done = run_command("diag_normal_kl", "--quick", "--seconds", "0", "--out", str(tmp_path / "run"))
    assert done.returncode == 2 and "--seconds: expected a positive number, got 0.0" in done.stderr


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(BadInput, match="--out: cannot make the folder"):
        bench(tmp_path, "diag_normal_kl", out=str(tmp_path / "taken" / "run"))


def test_interrupted_run_leaves_its_rows(tmp_path):
    begun = []

    def tell(line):
        begun.append(line)
        if len(begun) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, "diag_normal_kl", "gaussian_nll", tell=tell)
    assert {row.operation for row in store.read(tmp_path / "run").rows} == {"matrix product", "diag_normal_kl"}
    assert (tmp_path / "run" / "index.html").exists()


def test_interrupted_run_is_gone_on_with(tmp_path):
    names, begun, again = ["diag_normal_kl", "gaussian_nll", "discretized_logistic_nll"], [], []

    def tell(line):
        begun.append(line)
        if len(begun) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, *names, tell=tell)
    kept = tmp_path / "run"
    assert begun.pop() == f"stopped; {kept} keeps what was measured, and the same command with --resume goes on"
    first = store.read(tmp_path / "run").rows
    bench(tmp_path, *names, tell=again.append, resume=True)
    whole = store.read(tmp_path / "run").rows
    assert again == begun[2:]
    assert [row for row in first if row.operation != "matrix product"] == whole[: len(first) - 1]
    assert {row.operation for row in whole} == {*names, "matrix product"}
    told = [(r.operation, r.options, r.shape, r.series, r.direction, r.implementation) for r in whole]
    assert len(set(told)) == len(told)


def test_a_case_that_broke_off_is_measured_again():
    """Its rows that were there are dropped, not doubled."""
    settings = Settings(("reference",), seconds=1e-4, quick=True, compiled=False)
    wanted = cases(matching(["gaussian_nll", "diag_normal_kl"]), True)
    rows = list(run(wanted, settings))
    assert finished(wanted, settings, rows) == (wanted, rows[1:])
    done, held = finished(wanted, settings, rows[:-1])
    assert done == wanted[:1] and held == [row for row in rows if row.operation == wanted[0].record.name]
    assert finished(wanted, replace(settings, backends=("reference", "numba")), rows) == ([], [])


def test_results_of_another_machine_are_not_gone_on_with(tmp_path):
    folder = bench(tmp_path, "gaussian_nll").parent
    held = store.read(folder)
    store.write(folder, replace(held, facts=held.facts | {"threads": "1024"}))
    with pytest.raises(BadInput, match="--resume: .* was measured with threads 1024, here it is"):
        bench(tmp_path, "gaussian_nll", resume=True)
    with pytest.raises(BadInput, match="--resume: expected without --overwrite, got both"):
        bench(tmp_path, "gaussian_nll", resume=True, overwrite=True)


def test_wrong_results_fail_the_command(tmp_path, monkeypatch):
    wrong = Row("multiset_kl", "", "1x1x1", "dense", 1, 1, 1, "", "float32", "forward", "compvae_fast:cpu",
                note="wrong: output 0 is off by 7.0 times what is allowed")
    monkeypatch.setattr(command, "run", lambda *_: iter([wrong]))
    complaint = "1 results are wrong and were not timed, the first: multiset_kl 1x1x1 by compvae_fast:cpu"
    with pytest.raises(Failure, match=complaint):
        bench(tmp_path, "multiset_kl")
    assert "off by 7.0 times" in (tmp_path / "run" / "index.html").read_text()


def test_rows_read_back(tmp_path):
    bench(tmp_path, "gaussian_nll")
    results = store.read(tmp_path / "run")
    assert any(row.floor_share is not None for row in results.rows)
    with pytest.raises(BadInput, match="expected a folder with a rows.json of compvae_fast bench"):
        store.read(tmp_path)


def test_pictures_of_nothing():
    """A run that was stopped before its first row still has a page."""
    for draw in (figures.roofline, figures.scaling):
        assert draw([])


@pytest.fixture
def table(tmp_path, monkeypatch):
    """bench/table.py with results of two machines."""
    spec = importlib.util.spec_from_file_location("table", Path(__file__).parents[2] / "bench" / "table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    row = Row("multiset_kl", "coupling=unit", "8x16x256", "dense", 8, 16, 256, "", "float32", "forward",
              "compvae_fast:cpu", median_ms=0.25, gb_per_s=3.14, floor_share=0.8, times_faster=12.0,
              date="2026-11-21 10:00 UTC")
    rows = [row, replace(row, implementation="eager", median_ms=3.0), replace(row, series="K")]
    for name in "ab":
        facts = {"processor": name.upper(), "threads": "2", "torch": "2.13", "GPU": "none", "compvae_fast": "0",
                 "Python": "3"}
        (tmp_path / name).mkdir()
        store.write(tmp_path / name, store.Results(facts, "today", rows))
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


LINE = "| `multiset_kl` | 8x16x256 | coupling=unit | forward | 0.25 | 3.1 | 80 % | 3 | - | 12.0 times | 15.0 |"


def test_table_of_a_run(tmp_path, table):
    lines = table.as_markdown(store.read(tmp_path / "a"), []).splitlines()
    assert lines[2:] == [LINE, "", "A, 2 threads, torch 2.13, float32, 2026-11-21; medians."]
    assert table.as_markdown(store.read(tmp_path / "a"), ["prior_sum"]).splitlines()[2:] == [""]


def test_tables_of_the_readme(table):
    text = f"Above.\n\n{table.BEGIN}\nold\n{table.END}\n\nBelow."
    made = table.with_tables(text)
    assert made.startswith("Above.\n\n") and made.endswith("\n\nBelow.") and "old" not in made
    assert made.count(LINE) == 2 and "\nB, 2 threads" in made and "bench/results/b/rows.csv" in made
    assert table.with_tables(made) == made
