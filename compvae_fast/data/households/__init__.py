"""Households: a simulated town whose weekly electricity curves add up to neighbourhoods."""

from .contracts import CONTRACTS, LABELS, Contract, label_of
from .reader import Record, read, read_simbench
from .simulator import labels_of, temperature, weeks, year

__all__ = [
    "CONTRACTS",
    "LABELS",
    "Contract",
    "Record",
    "label_of",
    "labels_of",
    "read",
    "read_simbench",
    "temperature",
    "weeks",
    "year",
]
