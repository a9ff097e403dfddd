"""Households: a simulated town whose weekly electricity curves add up to neighbourhoods."""

from .contracts import CONTRACTS, LABELS, Contract, label_of
from .files import RecordFiles
from .reader import Record, read, read_simbench
from .simulator import labels_of, temperature, weeks, year
from .writer import write

__all__ = [
    "CONTRACTS",
    "LABELS",
    "Contract",
    "Record",
    "RecordFiles",
    "label_of",
    "labels_of",
    "read",
    "read_simbench",
    "temperature",
    "weeks",
    "write",
    "year",
]
