"""Wholes out of a trained run, one multiset or a table of them; and observed wholes edited part by part."""

from .edit import edit_wholes
from .generate import generate_wholes
from .jobs import Jobs, read_jobs
from .multisets import parse_counts, parse_features, parse_labels, read_context
from .shards import Generated, Worker, generate_shards
from .store import read_wholes, write_wholes

__all__ = [
    "Generated",
    "Jobs",
    "Worker",
    "edit_wholes",
    "generate_shards",
    "generate_wholes",
    "parse_counts",
    "parse_features",
    "parse_labels",
    "read_context",
    "read_jobs",
    "read_wholes",
    "write_wholes",
]
