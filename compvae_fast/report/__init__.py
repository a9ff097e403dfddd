"""Numbers and pictures of a trained run."""

from .info import info_text
from .measures import SIZES, check_measured, measure, measure_edits
from .page import write_report
from .tables import COLUMNS, EDIT_COLUMNS, as_text

__all__ = [
    "COLUMNS",
    "EDIT_COLUMNS",
    "SIZES",
    "as_text",
    "check_measured",
    "info_text",
    "measure",
    "measure_edits",
    "write_report",
]
