"""Users' own records by the commands: trained, killed, resumed, measured, reported; and what is refused."""

import datetime
import json
import shutil
import time

import numpy as np
import pytest
from test_cli import command, refuses

from compvae_fast.data import households

from .tiny import content, finish, start

FILES = ("curves", "contracts", "temperature")
SMALL = [
    "--recipe.batch=4", "--recipe.k_min=2", "--recipe.k_start=6", "--recipe.k_max=6", "--recipe.warmup=3",
    "--model.hidden=8", "--model.w_dim=3", "--model.z_dim=2", "--log_every=5", "--checkpoint_every=4", "--threads=1",
    "--data.timezone=UTC",
]


def train(folder, *options, steps=12):
    files = [f"--data.{name}={folder / name}.csv" for name in FILES]
    return ["train", "households-small", f"--steps={steps}", *SMALL, *files, *map(str, options)]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("record")
    households.write(folder, 16, seed=2, weeks=6)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(record, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "run"
    code, _, err = finish(start(*train(record), "--out", folder))
    assert code == 0, err
    return folder


def test_killed_and_resumed_it_ends_in_the_same_bytes(record, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    process = start(*train(record), "--out", folder)
    log, latest = folder / "log.jsonl", time.monotonic() + 60
    while process.poll() is None and not (log.exists() and '"step": 5,' in log.read_text()):
        assert time.monotonic() < latest, "no progress"
        time.sleep(0.002)
    process.kill()
    finish(process)
    assert "step-000000012.safetensors" not in content(folder), "it was over before it could be killed"
    code, _, err = finish(start(*train(record), "--out", folder))
    assert code == 0, err
    assert content(folder) == content(uninterrupted)


def test_a_run_is_measured_and_reported_by_its_own_record(capsys, uninterrupted, tmp_path):
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    np.save(tmp_path / "mild.npy", np.full(168, 9.0, np.float32))
    code, _, err = command(capsys, "generate", folder, "--labels=2,2,9", "--context", tmp_path / "mild.npy", "--n=3",
                           "--out", tmp_path / "x.npz")
    assert code == 0, err
    assert np.load(tmp_path / "x.npz")["x"].shape == (3, 336)
    code, out, err = command(capsys, "evaluate", folder, "--sizes=[3,5]", "--n=20", "--multisets=1", "--importance=2")
    assert code == 0, err
    rows = {int(line.split()[0]): line.split() for line in out.splitlines() if line.strip()[0].isdigit()}
    assert set(rows) == {3, 5}
    assert "most 16" in refuses(capsys, "evaluate", folder, "--sizes=[17]")
    code, out, err = command(capsys, "report", folder, "--n=8", "--multisets=1", "--importance=1")
    assert code == 0, err
    text = (folder / "index.html").read_text()
    assert "16 households of a record, whose weeks begin from 2018-01-01 to 2018-02-05" in text
    assert "simulated" not in text
    assert "trained on: the first 5; measured by: the last 1." in text
    measured = json.loads((folder / "measures.json").read_text())
    assert [row["k"] for row in measured["rows"]] == [2, 4, 8]


def test_files_that_moved_or_changed_are_named(capsys, record, tmp_path):
    there, here, folder = tmp_path / "there", tmp_path / "here", tmp_path / "run"
    shutil.copytree(record, there)
    code, _, err = command(capsys, *train(there, steps=4), "--out", folder)
    assert code == 0, err
    there.rename(here)
    line = refuses(capsys, "evaluate", folder)
    assert "data.curves" in line and str(there / "curves.csv") in line and "goes on" in line
    # the same files elsewhere are the same run
    code, _, err = command(capsys, *train(here, steps=4), "--out", folder)
    assert code == 0, err
    code, _, err = command(capsys, "evaluate", folder, "--sizes=[3]", "--n=4", "--multisets=1", "--importance=1")
    assert code == 0, err
    contracts = (here / "contracts.csv").read_text()
    (here / "contracts.csv").write_text(contracts.replace("offpeak,6,A", "offpeak,6,B"))
    changed = rf"data.contracts: {here}/contracts.csv has changed since training began"
    for arguments in (train(here, "--out", folder, steps=8), ["evaluate", folder], ["report", folder]):
        assert changed in refuses(capsys, *arguments)
    code, _, err = command(capsys, "generate", folder, "--counts=2:4", "--context", _mild(tmp_path), "--out",
                           tmp_path / "x.npz")
    assert code == 0, "generating needs no record: " + err


def _mild(folder):
    np.save(folder / "mild.npy", np.full(168, 9.0, np.float32))
    return folder / "mild.npy"


def test_what_a_record_lacks_is_said_before_anything_is_written(capsys, record, tmp_path):
    out = tmp_path / "run"
    cases = {
        ("--recipe.k_max=17", "--recipe.k_start=17"): "recipe.k_max: expected at most 16",
        ("--data.temperature=null",): "data.temperature: expected a file, for the model is told the temperature",
        ("--data.contracts=null",): "data.contracts: expected a file, for the model tells 13 contracts apart",
        ("--data.curves=null",): "data.curves, data.simbench: expected exactly one of them",
        (f"--data.curves={tmp_path}/none.csv",): f"data.curves: {tmp_path}/none.csv cannot be read",
        ("--data.timezone=Mars",): "timezone: expected a name",
    }
    for options, words in cases.items():
        assert words in refuses(capsys, *train(record, *options, "--out", out)), options
        assert not out.exists()
    sines = ["train", "sines-small", f"--data.curves={record}/curves.csv", "--out", out]
    assert "data: expected none for the problem 'sines'" in refuses(capsys, *sines)


def test_a_simbench_grid_without_contracts_and_temperature_trains(capsys, tmp_path):
    first = datetime.datetime(2016, 1, 4)
    times = [first + datetime.timedelta(minutes=15 * i) for i in range(3 * 672)]
    shape = 0.3 + 0.2 * np.sin(np.arange(len(times)) * 2 * np.pi / 96)
    lines = [f"{t:%d.%m.%Y %H:%M};{value:.4f}" for t, value in zip(times, shape)]
    (tmp_path / "LoadProfile.csv").write_text("\n".join(["time;H0-A_pload", *lines, ""]))
    loads = [f"home {i};H0-A;{0.002 + 0.0003 * i:.4f}" for i in range(8)]
    (tmp_path / "Load.csv").write_text("\n".join(["id;profile;pLoad", *loads, ""]))
    folder = tmp_path / "run"
    options = [f"--data.simbench={tmp_path}", "--model.num_labels=1", "--recipe.labels=[1,1]",
               "--model.hidden_context=true", "--out", folder]
    code, _, err = command(capsys, "train", "households-small", "--steps=4", *SMALL, *options)
    assert code == 0, err
    code, _, err = command(capsys, "report", folder, "--n=6", "--multisets=1", "--importance=1")
    assert code == 0, err
    stored = json.loads((folder / "config.json").read_text())["identity"]["data"]
    assert stored["simbench"] == str(tmp_path) and [name for name, _ in stored["sha256"]] == ["simbench"]
