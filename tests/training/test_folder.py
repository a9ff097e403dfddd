import json
import shutil

import pytest

from compvae_fast.training import BadInput, Failure, load_run, train
from compvae_fast.training.folder import claimed
from compvae_fast.training.log import read_rows

from .tiny import content, tiny_config, trained  # noqa: F401

LAST, PREVIOUS = "step-000000012.safetensors", "step-000000008.safetensors"


@pytest.fixture
def folder(trained, tmp_path):  # noqa: F811
    """A run of one's own to damage."""
    return shutil.copytree(trained, tmp_path / "run")


def refuse(config, folder, message):
    before = content(folder)
    with pytest.raises(BadInput, match=message):
        train(config, folder, show=False)
    assert content(folder) == before


def test_the_last_two_checkpoints_are_kept(trained):  # noqa: F811
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == [PREVIOUS, LAST]


def test_earlier_states_are_kept_where_asked(trained, tmp_path):  # noqa: F811
    """And the run is the same one: what is kept is no matter of its numbers."""
    train(tiny_config(checkpoint_every=2, keep_every=4, steps=11, horizon=12), tmp_path / "run", show=False)
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == [f"step-{step:09d}.safetensors" for step in (4, 8, 10, 11)]
    assert (tmp_path / "run" / "checkpoints" / PREVIOUS).read_bytes() == content(trained)[f"checkpoints/{PREVIOUS}"]
    with pytest.raises(BadInput, match="keep_every: expected a multiple of 4, got 6"):
        tiny_config(keep_every=6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"recipe": {"lr": 0.5}}, "recipe.lr is 0.001 there and 0.5 here"),
        ({"log_every": 6}, "log_every is 5 there and 6 here"),
        ({"horizon": 6}, "horizon is 12 there and 6 here"),
        ({"threads": 2}, "threads is 1 there and 2 here"),
    ],
)
def test_another_run_s_folder_is_refused_and_what_differs_is_named(folder, settings, message):
    refuse(tiny_config(**settings), folder, message)


def test_another_preset_s_folder_is_refused(folder):
    config = tiny_config()
    object.__setattr__(config.model, "preset", "sines")
    refuse(config, folder, "preset is 'sines-small' there and 'sines' here")


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="holds other files"):
        train(tiny_config(), tmp_path, show=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_text("a file")
    with pytest.raises(BadInput, match="expected a folder, got the file"):
        train(tiny_config(), path, show=False)
    with pytest.raises(BadInput, match="cannot be written"):
        train(tiny_config(), path / "below", show=False)
    assert path.read_text() == "a file"


def test_a_second_writer_is_refused(folder):
    with claimed(folder):
        refuse(tiny_config(steps=20), folder, "another process is training")


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b"no checkpoint at all", lambda b: b[:-9] + b"\0" * 9]
)
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(folder, trained, damage):  # noqa: F811
    newest = folder / "checkpoints" / LAST
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match=rf"{LAST}.*going back to the one of step 8"):
        assert load_run(folder).step == 8
    assert newest.exists()
    with pytest.warns(UserWarning, match="going back to the one of step 8"):
        train(tiny_config(), folder, show=False)
    assert (folder / "checkpoints" / (LAST + ".damaged")).exists()
    (folder / "checkpoints" / (LAST + ".damaged")).unlink()
    assert content(folder) == content(trained)


def test_without_a_whole_checkpoint_nothing_is_begun_again(folder):
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    before = content(folder)
    for call in (lambda: load_run(folder), lambda: train(tiny_config(), folder, show=False)):
        with pytest.raises(Failure, match="no whole checkpoint.*truncated"):
            call()
    assert content(folder) == before


def test_a_checkpoint_of_another_run_is_not_taken(folder, tmp_path):
    train(tiny_config(seed=5), tmp_path / "other", show=False)
    shutil.copy(tmp_path / "other" / "checkpoints" / LAST, folder / "checkpoints" / LAST)
    with pytest.warns(UserWarning, match="belongs to another run"):
        assert load_run(folder).step == 8


def test_what_a_kill_while_saving_leaves_is_cleared_away(folder, trained):  # noqa: F811
    leftover = folder / "checkpoints" / f".{LAST}.tmp"
    leftover.write_bytes(b"half")
    train(tiny_config(), folder, show=False)
    assert content(folder) == content(trained)


def test_a_kill_before_the_first_checkpoint_begins_again(folder, trained):  # noqa: F811
    shutil.rmtree(folder / "checkpoints")
    train(tiny_config(), folder, show=False)
    assert content(folder) == content(trained)


def test_a_kill_before_the_configuration_was_written_begins_again(tmp_path, trained):  # noqa: F811
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.tmp").write_text('{"iden')
    train(tiny_config(), tmp_path, show=False)
    assert content(tmp_path) == content(trained)


def test_rows_are_those_up_to_the_checkpoint(folder):
    (folder / "checkpoints" / LAST).unlink()
    assert [row["step"] for row in load_run(folder).rows] == [5]
    assert len(read_rows(folder / "log.jsonl")) == 2


def test_one_checkpoint_file_is_a_run_too(trained):  # noqa: F811
    run = load_run(trained / "checkpoints" / PREVIOUS)
    assert (run.step, run.config.seed, run.rows) == (8, 0, [])


@pytest.mark.parametrize(
    "prepare, kind, message",
    [
        (lambda f: shutil.rmtree(f), BadInput, "does not exist"),
        (lambda f: (f / "config.json").unlink(), BadInput, "no run folder"),
        (lambda f: shutil.rmtree(f / "checkpoints"), BadInput, "no checkpoint yet"),
        (lambda f: (f / "config.json").write_text('{"ident'), Failure, "damaged"),
        (lambda f: (f / "config.json").write_text("{}"), Failure, "damaged"),
    ],
)
def test_what_is_no_run_is_named(folder, prepare, kind, message):
    prepare(folder)
    with pytest.raises(kind, match=message):
        load_run(folder)


def test_a_run_of_another_version_is_named(folder):
    path = folder / "config.json"
    stored = json.loads(path.read_text())
    stored["identity"]["recipe"]["unheard_of"] = 1
    path.write_text(json.dumps(stored))
    with pytest.raises(Failure):
        load_run(folder)


def test_a_run_of_before_a_setting_was_there_goes_on_with_its_default(folder, trained):  # noqa: F811
    path = folder / "config.json"
    stored = json.loads(path.read_text())
    for name in ("problem", "aggregation"):
        del stored["identity"]["model"][name]
    path.write_text(json.dumps(stored))
    assert load_run(folder).model.config.problem == "sines"
    train(tiny_config(), folder, show=False)
    assert content(folder) == content(trained)
