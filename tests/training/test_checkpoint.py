import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compvae_fast.training.checkpoint import Checkpoint, DamagedCheckpoint, read_checkpoint, write_checkpoint
from compvae_fast.training.errors import Failure

CHECKPOINT = Checkpoint(
    step=7,
    tensors={
        "a": torch.arange(6.0).view(2, 3),
        "transposed": torch.arange(6.0).view(2, 3).T,
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4),
    },
    values={"skipped": 2, "identity": {"preset": "sines", "model": {"w_dim": 4}}},
)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, CHECKPOINT)
    read = read_checkpoint(path)
    assert (read.step, read.values) == (CHECKPOINT.step, CHECKPOINT.values)
    assert read.tensors.keys() == CHECKPOINT.tensors.keys()
    for name, tensor in CHECKPOINT.tensors.items():
        assert read.tensors[name].dtype == tensor.dtype and torch.equal(read.tensors[name], tensor)


def test_what_was_read_does_not_hold_on_to_the_file(tmp_path):
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, CHECKPOINT)
    read = read_checkpoint(path)
    assert str(path) not in Path("/proc/self/maps").read_text()
    path.write_bytes(bytes(path.stat().st_size))
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in CHECKPOINT.tensors.items())


def test_the_same_content_is_the_same_bytes(tmp_path):
    paths = [tmp_path / str(i) for i in range(4)]
    for path in paths:
        write_checkpoint(path, CHECKPOINT)
    assert len({path.read_bytes() for path in paths}) == 1


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, CHECKPOINT)
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpoint, match="truncated"):
            read_checkpoint(path)


def test_a_changed_bit_anywhere_is_noticed(tmp_path):
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, CHECKPOINT)
    whole = path.read_bytes()
    values = whole.index(b'\\"skipped\\": 2') + len(b'\\"skipped\\": ')
    for place in (values, len(whole) - 1, len(whole) - 20, len(whole) - 50):
        altered = bytearray(whole)
        altered[place] ^= 1
        path.write_bytes(altered)
        with pytest.raises(DamagedCheckpoint):
            read_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_another_safetensors_file_is_no_checkpoint(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(DamagedCheckpoint, match="not a checkpoint of compvae_fast"):
        read_checkpoint(path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, CHECKPOINT)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(Failure, match="No space left on device"):
        write_checkpoint(path, Checkpoint(8, {"a": torch.zeros(1)}, {}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
