"""Households: a simulated town whose weekly electricity curves add up to neighbourhoods."""

from .contracts import CONTRACTS, LABELS, Contract, label_of
from .simulator import labels_of, temperature, weeks, year

__all__ = ["CONTRACTS", "LABELS", "Contract", "label_of", "labels_of", "temperature", "weeks", "year"]
