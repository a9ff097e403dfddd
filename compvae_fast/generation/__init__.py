"""Wholes out of a trained run, and observed wholes edited part by part."""

from .edit import edit_wholes
from .generate import generate_wholes
from .multisets import parse_counts, parse_labels
from .store import read_wholes, write_wholes

__all__ = ["edit_wholes", "generate_wholes", "parse_counts", "parse_labels", "read_wholes", "write_wholes"]
