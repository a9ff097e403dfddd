"""The commands, as a user types them: what they do, and one clear line where they refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from training.tiny import OPTIONS, content, finish, start, trained  # noqa: F401

from compvae_fast.cli import main
from compvae_fast.models import presets, recipe

TRAIN = ["train", "sines-small", "--steps=12", *OPTIONS]
LAST = "step-000000012.safetensors"


def command(capsys, *arguments):
    """Exit code, stdout and stderr of a command run in this process."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


def refuses(capsys, *arguments, code=2):
    """The one line that a command refuses with."""
    ended, out, err = command(capsys, *arguments)
    lines = [line for line in err.splitlines() if line.strip() and "step/s" not in line]
    assert (ended, out) == (code, ""), (ended, out, err)
    assert len(lines) == 1 and lines[0].startswith("compvae_fast: error: "), err
    return lines[0]


@pytest.fixture
def folder(trained, tmp_path):  # noqa: F811
    return shutil.copytree(trained, tmp_path / "run")


def test_train_begins_and_the_same_command_goes_on(trained, tmp_path):  # noqa: F811
    for code_expected in (0, 0):
        code, out, err = finish(start(*TRAIN, "--out", tmp_path / "run"))
        assert code == code_expected and out == "" and "12 of 12 steps" in err, err
    assert content(tmp_path / "run") == content(trained)


def test_the_bar_shows_three_losses_in_bits_speed_and_time_left(tmp_path):
    code, _, err = finish(start(*TRAIN, "--out", tmp_path / "run"))
    last = err.replace("\r", "\n").splitlines()[-2]
    assert code == 0 and "step/s" in last and "<" in last
    for name in ("w=", "z=", "x="):
        assert name in last.split("step/s")[1]


def test_print_config_prints_every_default_and_the_file_trains_the_same(capsys, tmp_path, trained):  # noqa: F811
    code, out, _ = command(capsys, *TRAIN, "--print_config")
    printed = yaml.safe_load(out)
    assert code == 0 and printed["steps"] == 12
    assert set(printed["recipe"]) == set(recipe("sines-small").to_dict()) - {"steps"}
    assert printed["recipe"]["batch"] == 4 and printed["recipe"]["lr"] == recipe("sines-small").lr
    (tmp_path / "run.yaml").write_text(out)
    code, _, err = command(capsys, "train", "sines-small", "--config", tmp_path / "run.yaml", "--out", tmp_path / "run")
    assert code == 0, err
    assert content(tmp_path / "run") == content(trained)


@pytest.mark.parametrize("preset", presets())
def test_each_preset_s_own_recipe_is_the_default(capsys, preset):
    _, out, _ = command(capsys, "train", preset, "--print_config")
    printed = yaml.safe_load(out)
    expected = json.loads(json.dumps(recipe(preset).to_dict()))
    assert printed["steps"] == expected.pop("steps") and printed["recipe"] == expected


def test_generate_writes_what_the_seed_says(capsys, trained, tmp_path):  # noqa: F811
    for name in ("a.npz", "b.npz"):
        code, _, err = command(
            capsys, "generate", trained, "--labels", "1,1,5,7", "--n", 100, "--seed", 3, "--out", tmp_path / name
        )
        assert code == 0, err
    with np.load(tmp_path / "a.npz") as made:
        assert made["x"].shape == (100, 200) and made["labels"].tolist() == [1, 1, 5, 7] and made["seed"] == 3
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    code, _, err = command(capsys, "generate", trained, "--labels", "5", "--counts", "5:1", "--out", tmp_path / "c.npz")
    assert code == 2
    code, _, err = command(capsys, "generate", trained, "--counts", "1:1000000,5:3", "--out", tmp_path / "c.npz")
    assert code == 0 and np.isfinite(np.load(tmp_path / "c.npz")["x"]).all()


def test_edit_takes_what_generate_wrote(capsys, trained, tmp_path):  # noqa: F811
    command(capsys, "generate", trained, "--labels", "2,5", "--n", 3, "--out", tmp_path / "x.npz")
    code, _, err = command(
        capsys, "edit", trained, "--input", tmp_path / "x.npz", "--remove", 2, "--add", 7, "--out", tmp_path / "y.npz"
    )
    assert code == 0, err
    with np.load(tmp_path / "y.npz") as edited:
        assert edited["labels"].tolist() == [[5, 7]] * 3 and edited["x"].shape == (3, 200)


def test_evaluate_prints_a_table_and_stores_it(capsys, trained, tmp_path):  # noqa: F811
    arguments = ["--n=4", "--multisets=1", "--importance=1", "--sizes=[1,30]", "--out", tmp_path / "e.json"]
    code, out, err = command(capsys, "evaluate", trained, *arguments)
    assert code == 0, err
    assert "iw bound, nats" in out and "a part removed" in out
    stored = json.loads((tmp_path / "e.json").read_text())
    assert [row["k"] for row in stored["rows"]] == [1, 30] and stored["step"] == 12


def test_report_prints_the_page_s_place(capsys, folder):
    code, out, err = command(capsys, "report", folder, "--n=4", "--multisets=1", "--importance=1")
    assert code == 0, err
    assert out.strip() == str(folder / "index.html") and (folder / "index.html").exists()


def test_info_and_version(capsys):
    code, out, _ = command(capsys, "info")
    assert code == 0 and "torch" in out and "reference" in out
    code, out, _ = command(capsys, "--version")
    assert code == 0 and out.startswith("compvae_fast 0.")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], 'expected "command" to be one of'),
        (["trian"], "invalid choice: 'trian'"),
        (["train"], "arguments are required: preset, out"),
        (["train", "sines-small"], "out"),
        (["train", "sinus", "--out=OUT"], f"preset: expected one of {', '.join(presets())}; got 'sinus'"),
        (["train", "sines-small", "--out=OUT", "--steps=many"], "--steps: expected a whole number, got 'many'"),
        (["train", "sines-small", "--out=OUT", "--graphs=2"], "--graphs: expected true or false, got '2'"),
        (["train", "sines-small", "--out=OUT", "--threads=x"], "--threads: expected a whole number or null, got 'x'"),
        (["train", "sines-small", "--out=OUT", "--threads=1025"], "threads: expected at most 1024, got 1025"),
        (["train", "sines-small", "--out=OUT", "--steps=0"], "steps: expected at least 1, got 0"),
        (["train", "sines-small", "--out=OUT", "--seed=-1"], "seed: expected 0 to 2^64 - 1, got -1"),
        (["train", "sines-small", "--out=OUT", "--threads=0"], "threads: expected at least 1"),
        (["train", "sines-small", "--out=OUT", "--device=tpu"], "device: expected cpu or cuda, got 'tpu'"),
        (["train", "sines-small", "--out=OUT", "--recipe.optimizer=sgd"], "expected 'adam' or 'adamax', got 'sgd'"),
        (["train", "sines-small", "--out=OUT", "--recipe.lrr=1"], "unrecognized arguments: --recipe.lrr=1"),
        (["train", "sines-small", "--out=OUT", "--recipe.batch=0"], "recipe.batch: expected at least 1, got 0"),
        (["train", "sines-small", "--out=OUT", "--recipe.lr=-1"], "recipe.lr: expected more than 0"),
        (["train", "sines-small", "--out=OUT", "--model.w_dim=0"], "w_dim: expected a positive integer, got 0"),
        (
            ["train", "sines-small", "--out=OUT", "--model.coupling=odd"],
            "coupling: expected 'unit' or 'scaled', got 'odd'",
        ),
        (["train", "sines-small", "--out=OUT", "--config=OUT"], "OUT"),
        (["generate", "OUT", "--labels=1", "--out=x.npz"], "does not exist"),
        (["generate", "OUT", "--labels=1"], "out"),
        (["evaluate", "OUT"], "does not exist"),
        (["evaluate", "OUT", "--sizes=2,4"], "--sizes: expected numbers as [2,4] or null, got '2,4'"),
        (["report", "OUT"], "does not exist"),
        (["demo", "--minutes=long"], "--minutes: expected a number, got 'long'"),
        (["demo", "--n=1", "--out=OUT"], "n: expected at least 2, got 1"),
        (["demo", "--minutes=-1", "--out=OUT"], "minutes: expected more than 0, got -1.0"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    line = refuses(capsys, *(argument.replace("OUT", str(tmp_path / "out")) for argument in arguments))
    assert words.replace("OUT", str(tmp_path / "out")) in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--labels=11"], "--labels: expected labels in 1..10, got 11"),
        (["--labels=1,b"], "--labels: expected labels with commas"),
        (["--counts=1:-3"], "0..2^53, got -3"),
        ([f"--counts=1:{2**53 + 1}"], f"0..2^53, got {2**53 + 1}"),
        ([], "--labels, --counts, --labels_file: expected exactly one of them"),
        (["--labels=1", "--n=0"], "--n: expected at least 1"),
        (["--labels=1", "--n=x"], "--n: expected a whole number, got 'x'"),
        (["--labels=1", f"--first={2**48 - 2}", "--n=2"], "--first, --n: expected draws below 281474976710655 = "),
        (["--labels=1", f"--n={10**30}"], "--first, --n: expected draws below 281474976710655 = "),
        (["--labels=1", "--seed=-1"], "--seed: expected 0 to 2^64 - 1, got -1"),
    ],
)
def test_generate_refuses(capsys, trained, tmp_path, arguments, words):  # noqa: F811
    assert words in refuses(capsys, "generate", trained, *arguments, "--out", tmp_path / "x.npz")
    assert list(tmp_path.iterdir()) == []


def test_what_no_memory_holds_fails_in_one_line(capsys, trained, tmp_path):  # noqa: F811
    line = refuses(capsys, "generate", trained, "--labels=1", f"--n={2**47}", "--out", tmp_path / "x.npz", code=1)
    assert line.startswith("compvae_fast: error: not enough memory: ") and list(tmp_path.iterdir()) == []


def test_a_configuration_that_is_no_text(capsys, tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xa3\xff")
    line = refuses(capsys, *TRAIN, "--out", tmp_path / "run", "--config", tmp_path / "x.yaml")
    assert "--config: expected a YAML file" in line


@pytest.mark.parametrize("name", ["generate", "edit", "evaluate"])
def test_a_file_that_is_there_stays_unless_said_otherwise(capsys, trained, tmp_path, name):  # noqa: F811
    command(capsys, "generate", trained, "--labels=2,5", "--out", tmp_path / "x.npz")
    arguments = {
        "generate": ["--labels=1"],
        "edit": ["--input", tmp_path / "x.npz", "--remove=2"],
        "evaluate": ["--n=2", "--multisets=1", "--importance=1", "--sizes=[1]"],
    }[name]
    out = tmp_path / "taken"
    out.write_text("years of work")
    line = refuses(capsys, name, trained, *arguments, "--out", out)
    assert "exists already; choose another name or pass --overwrite" in line and out.read_text() == "years of work"
    assert "folder" in refuses(capsys, name, trained, *arguments, "--out", tmp_path)
    assert "does not exist" in refuses(capsys, name, trained, *arguments, "--out", tmp_path / "no" / "x.npz")
    code, _, err = command(capsys, name, trained, *arguments, "--out", out, "--overwrite")
    assert code == 0, err
    assert out.read_bytes()[:5] != b"years"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--remove=9"], "whole 0 has no part of label 9 left; its labels are [2, 5]"),
        (["--remove=0"], "--remove: expected labels in 1..10, got 0"),
        (["--add=12"], "--add: expected labels in 1..10, got 12"),
        ([], "--remove, --add: expected labels for at least one of them"),
        (["--add=1", "--seed=-1"], "--seed: expected 0 to 2^64 - 1, got -1"),
    ],
)
def test_edit_refuses(capsys, trained, tmp_path, arguments, words):  # noqa: F811
    command(capsys, "generate", trained, "--labels=2,5", "--out", tmp_path / "x.npz")
    line = refuses(capsys, "edit", trained, "--input", tmp_path / "x.npz", *arguments, "--out", tmp_path / "y.npz")
    assert words in line and not (tmp_path / "y.npz").exists()


def test_another_run_s_folder_is_refused_by_name(capsys, folder):
    before = content(folder)
    assert "seed is 0 there and 4 here" in refuses(capsys, *TRAIN, "--seed=4", "--out", folder)
    assert "preset is 'sines-small' there and 'sines' here" in refuses(
        capsys, "train", "sines", "--steps=12", *OPTIONS, "--out", folder
    )
    assert content(folder) == before


def test_another_preset_s_run_is_refused_in_a_line_that_can_be_read(capsys, folder):
    assert len(refuses(capsys, "train", "sines", "--steps=12", *OPTIONS, "--out", folder)) < 400


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(capsys, trained, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    for name in ("generate", "evaluate"):
        more = ["--labels=1"] if name == "generate" else []
        assert "cannot be written" in refuses(capsys, name, trained, *more, "--out", tmp_path / "x")


def test_damaged_checkpoints_are_named_on_one_line(capsys, folder, tmp_path):
    newest = folder / "checkpoints" / LAST
    newest.write_bytes(newest.read_bytes()[:-1])
    code, _, err = command(capsys, "generate", folder, "--labels=1", "--out", tmp_path / "x.npz")
    first = err.splitlines()[0]
    assert code == 0 and first.startswith("compvae_fast: warning: ") and "going back to the one of step 8" in first
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(b"not a checkpoint at all")
    line = refuses(capsys, "generate", folder, "--labels=1", "--out", tmp_path / "y.npz", code=1)
    assert "no whole checkpoint" in line and "not a checkpoint" in line
    assert "not a checkpoint" in refuses(capsys, "generate", newest, "--labels=1", "--out", tmp_path / "y.npz", code=1)
    assert "no whole checkpoint" in refuses(capsys, *TRAIN, "--out", folder, code=1)
    assert newest.read_bytes() == b"not a checkpoint at all"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(capsys, tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written: Permission denied" in refuses(capsys, *TRAIN, "--out", tmp_path / "run")
    tmp_path.chmod(0o700)


def test_a_place_where_no_folder_can_be_is_refused(capsys):
    assert "cannot be written" in refuses(capsys, *TRAIN, "--out", "/proc/run")


def test_demo_goes_on_after_ctrl_c_and_ends_in_a_report(tmp_path):
    arguments = ["demo", "--minutes=0.01", "--n=4", "--multisets=1", "--importance=1", "--out", tmp_path / "demo"]
    process = start(*arguments)
    latest = time.monotonic() + 90
    while process.poll() is None and not (tmp_path / "demo" / "log.jsonl").exists():
        assert time.monotonic() < latest
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130 and "goes on from there" in err, err
    config = (tmp_path / "demo" / "config.json").read_bytes()
    code, out, err = finish(start(*arguments), timeout=300)
    assert code == 0, err
    assert (tmp_path / "demo" / "config.json").read_bytes() == config
    assert out.strip() == str(tmp_path / "demo" / "index.html")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_results_that_cannot_be_printed_are_missed():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "compvae_fast", "info"], stdout=full, stderr=subprocess.PIPE,
                              text=True)
    assert (done.returncode, done.stderr) == (1, "compvae_fast: error: the output: No space left on device\n")


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    process = start("info")
    process.stdout.close()
    process.wait(60)
    assert "Traceback" not in process.stderr.read()
