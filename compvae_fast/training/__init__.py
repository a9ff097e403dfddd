"""Training that can be stopped anywhere, and the runs it leaves."""

from .config import TrainingConfig
from .errors import BadInput, Failure
from .loop import Trained, train
from .pace import paced
from .runs import Run, load_run

__all__ = ["BadInput", "Failure", "Run", "Trained", "TrainingConfig", "load_run", "paced", "train"]
