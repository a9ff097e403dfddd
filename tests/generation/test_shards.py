"""Runs of generation over a table: the same bytes however they were made, and one clear line for bad input."""

import csv
import json
import random
import resource
import signal
import time

import numpy as np
import pytest
from training.tiny import finish, start, trained  # noqa: F401

from compvae_fast.generation import Worker, generate_shards, generate_wholes, read_jobs
from compvae_fast.training import BadInput, load_run

ROWS = [
    {"labels": "1,1,5", "counts": "", "seed": "3", "n": "4"},
    {"labels": "", "counts": "2:1000000000000,9:3", "seed": str(2**64 - 1), "n": "2"},
    {"labels": "10 4", "counts": "", "seed": "", "n": ""},
    {"labels": "7", "counts": "", "seed": "5", "n": "30"},
]


@pytest.fixture(scope="module")
def run(trained):  # noqa: F811
    return load_run(trained)


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("jobs") / "jobs.csv", ROWS)


def made(folder):
    """What a run left, by name, but for what begins with a dot."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def generated(run, jobs, out, workers=1, **settings):
    for rank in range(workers):
        ended = generate_shards(run, jobs, out, per_shard=8, worker=Worker(rank, workers), **settings)
    return ended, made(out)


def test_each_whole_is_the_one_its_row_and_draw_name(run, table, tmp_path):
    jobs = read_jobs(table, run.model.config)
    ended, files = generated(run, jobs, tmp_path / "out")
    assert (ended.wholes, ended.asked) == (37, 37) and len(files) == 6
    shards = [np.load(path) for path in sorted((tmp_path / "out").glob("*.npz"))]
    whole = {name: np.concatenate([shard[name] for shard in shards]) for name in ("x", "job", "draw", "seed")}
    assert whole["job"].tolist() == [0] * 4 + [1] * 2 + [2] + [3] * 30
    assert whole["draw"].tolist() == [*range(4), 0, 1, 0, *range(30)]
    assert whole["seed"].tolist() == [3] * 4 + [2**64 - 1] * 2 + [2] + [5] * 30
    asked = [{"labels": [1, 1, 5]}, {"counts": {2: 10**12, 9: 3}}, {"labels": [10, 4]}, {"labels": [7]}]
    for index in (2, 5, 6, 36):
        job, draw, seed = (whole[name][index] for name in ("job", "draw", "seed"))
        alone = generate_wholes(run, **asked[job], first=int(draw), seed=int(seed))["x"][0]
        np.testing.assert_allclose(whole["x"][index], alone, rtol=1e-5, atol=1e-5 * abs(alone).max())


def test_workers_and_interruptions_change_no_byte(run, table, tmp_path):
    jobs = read_jobs(table, run.model.config)
    _, alone = generated(run, jobs, tmp_path / "one")
    _, shared = generated(run, jobs, tmp_path / "three", workers=3)
    assert alone == shared
    manifest = json.loads(alone["manifest.json"])
    assert manifest["complete"] and [shard["wholes"] for shard in manifest["shards"]] == [8, 8, 8, 8, 5]
    (tmp_path / "one" / "shard-000002.npz").unlink()
    (tmp_path / "one" / ".shard-000002.npz.0.tmp").write_bytes(b"half")
    seen = []
    assert generated(run, jobs, tmp_path / "one", progress=seen.append)[1] == alone and sum(seen) == 37
    assert not list((tmp_path / "one").glob(".*.tmp"))


def test_a_folder_of_something_else_is_refused(run, table, tmp_path):
    jobs = read_jobs(table, run.model.config)
    generated(run, jobs, tmp_path / "out")
    with pytest.raises(BadInput, match="another run: noise is True there and False here"):
        generated(run, jobs, tmp_path / "out", noise=False)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="other files, notes.txt"):
        generated(run, jobs, tmp_path / "out")


def test_tables_of_other_kinds_say_the_same(run, table, tmp_path):
    expected = read_jobs(table, run.model.config)
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow

    rows = [
        {"labels": [1, 1, 5], "counts": None, "seed": 3, "n": 4},
        {"labels": None, "counts": [0, 10**12, 0, 0, 0, 0, 0, 0, 3, 0], "seed": 2**64 - 1, "n": 2},
        {"labels": [10, 4], "counts": None, "seed": None, "n": None},
        {"labels": [7], "counts": None, "seed": 5, "n": 30},
    ]
    schema = pyarrow.schema([("labels", pyarrow.list_(pyarrow.int64())), ("counts", pyarrow.list_(pyarrow.int64())),
                             ("seed", pyarrow.uint64()), ("n", pyarrow.int64())])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), tmp_path / "jobs.parquet")
    assert read_jobs(tmp_path / "jobs.parquet", run.model.config).sha256 == expected.sha256
    np.savez(tmp_path / "jobs.npz", labels=[1, 1, 5, 10, 4], offsets=[0, 3, 5], seed=[3, 2], n=[4, 1])
    ragged = read_jobs(tmp_path / "jobs.npz", run.model.config)
    written = write_csv(tmp_path / "two.csv", [ROWS[0], {**ROWS[2], "seed": "2"}])
    assert ragged.sha256 == read_jobs(written, run.model.config).sha256


@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels": "1,11"}, r"row 1: labels: expected labels in 1\.\.10, got 11"),
        ({"labels": "1,x"}, "row 1: labels: expected labels with commas"),
        ({"labels": ""}, "row 1: expected labels or counts, got neither"),
        ({"counts": "1:1"}, "row 1: expected labels or counts, got labels and counts"),
        ({"labels": "", "counts": "1:-1"}, r"row 1: counts: expected counts in 0\.\.2\^53"),
        ({"seed": "1.5"}, "row 1: seed: expected a whole number"),
        ({"seed": str(2**64)}, "row 1: seed: expected a whole number"),
        ({"n": "0"}, "row 1: n: expected a whole number"),
    ],
)
def test_a_bad_row_is_named(run, tmp_path, change, message):
    path = write_csv(tmp_path / "jobs.csv", [ROWS[0], {**ROWS[0], **change}])
    with pytest.raises(BadInput, match=message):
        read_jobs(path, run.model.config)


def test_what_is_no_table_is_refused(run, tmp_path):
    (tmp_path / "short.csv").write_text("labels,seed\n1\n")
    (tmp_path / "long.csv").write_text("labels,seed\n1,2,3\n")
    (tmp_path / "names.csv").write_text("label,seed\n1,2\n")
    (tmp_path / "empty.csv").write_text("labels\n")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    np.savez(tmp_path / "lengths.npz", labels=[[1]], seed=[1, 2])
    np.savez(tmp_path / "offsets.npz", labels=[1, 2], offsets=[0, 3])
    for name, message in {
        "short.csv": "row 0: expected 2 columns, got fewer", "long.csv": "row 0: expected 2 columns, got more",
        "names.csv": "expected columns labels or counts, and seed and n, got label, seed", "empty.csv": "has no rows",
        "cut.npz": "no .npz file, or a damaged one", "lengths.npz": "columns of one length, got labels 1, seed 2",
        "offsets.npz": "expected to rise from 0 to 2", "none.csv": "does not exist", "jobs.txt": "expected a .csv",
    }.items():
        with pytest.raises(BadInput, match=message):
            read_jobs(tmp_path / name, run.model.config)


@pytest.fixture(scope="module")
def long_table(tmp_path_factory):
    """Thousands of wholes: enough to be killed at."""
    return write_csv(tmp_path_factory.mktemp("long") / "jobs.csv",
                     [{"labels": "1,1,5", "seed": row, "n": 10} for row in range(1000)])


def test_killed_at_any_moment_it_ends_in_the_bytes_of_the_uninterrupted_run(trained, long_table, tmp_path):  # noqa: F811
    def begin(out):
        return start("generate", trained, "--jobs", long_table, "--out", tmp_path / out, "--wholes_per_shard", 100)

    code, _, err = finish(begin("whole"))
    assert code == 0 and "10000 of 10000 wholes" in err, err
    moments = random.Random(0)
    for shards in (1, 55):
        process, latest = begin("killed"), time.monotonic() + 60
        while process.poll() is None and len(list((tmp_path / "killed").glob("shard-*.npz"))) < shards:
            assert time.monotonic() < latest, "no progress"
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        finish(process)
    begun = len(list((tmp_path / "killed").glob("shard-*.npz")))
    code, _, err = finish(begin("killed"))
    assert code == 0 and begun < 100, err
    assert made(tmp_path / "killed") == made(tmp_path / "whole")


def test_a_signal_ends_it_with_how_to_go_on(trained, long_table, tmp_path):  # noqa: F811
    process = start("generate", trained, "--jobs", long_table, "--out", tmp_path / "out", "--wholes_per_shard", 10)
    while process.poll() is None and not list((tmp_path / "out").glob("shard-*.npz")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130 and "of 10000 wholes; the same command goes on from there" in err


def test_a_full_disk_leaves_whole_shards_and_nothing_else(trained, table, tmp_path):  # noqa: F811
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = start("generate", trained, "--jobs", table, "--out", tmp_path / "out", preexec_fn=limit)
    code, _, err = finish(process)
    assert code == 1 and "error: cannot write" in err and "shard-000000.npz: File too large" in err
    assert set(made(tmp_path / "out")) == {"manifest.json"} and not list((tmp_path / "out").glob(".*.tmp"))
