import pytest

from compvae_fast.training.errors import Failure
from compvae_fast.training.log import Log, read_rows


def write(path, text):
    path.write_text(text)
    return path


def test_rows_past_the_step_are_cut_off_and_the_last_kept_one_is_known(tmp_path):
    path = write(tmp_path / "log", '{"step": 5}\n{"step": 10}\n{"step": 15}\n')
    with Log(path, step=10) as log:
        assert log.last == {"step": 10}
        log.write({"step": 12})
    assert path.read_text() == '{"step": 5}\n{"step": 10}\n{"step": 12}\n'


@pytest.mark.parametrize("cut", ['{"step": 10', '{"step": 10}', '{"st\n', "\0\0\0\n"])
def test_a_row_that_a_kill_cut_short_is_left_out(tmp_path, cut):
    path = write(tmp_path / "log", '{"step": 5}\n' + cut)
    assert read_rows(path) == [{"step": 5}]
    with Log(path, step=10) as log:
        log.write({"step": 10})
    assert path.read_text() == '{"step": 5}\n{"step": 10}\n'


def test_a_log_that_cannot_be_opened_is_a_failure(tmp_path):
    with pytest.raises(Failure, match="cannot write"):
        Log(tmp_path / "no" / "log", step=0)
