"""A run of the suite as a Markdown table, for a README.

    python bench/table.py bench/results/<machine> [OPERATION...]
"""

from __future__ import annotations

import sys
from pathlib import Path

from compvae_fast.bench.contestants import PREFIX
from compvae_fast.bench.page import milliseconds, share
from compvae_fast.bench.store import Results, read

HEADING = ("operation", "sets x parts x coordinates", "options", "pass", "ms", "GB/s", "share of the floor",
           "beside the faster of eager and torch.compile")


def as_markdown(results: Results, operations: list[str]) -> str:
    """The rows of the package's backends, scaling series aside; of the named operations, or of all."""
    lines = [HEADING, ("---",) * len(HEADING)]
    for row in results.rows:
        if row.implementation.startswith(PREFIX) and not row.series and (not operations or row.operation in operations):
            bandwidth = "-" if row.gb_per_s is None else f"{row.gb_per_s:.1f}"
            faster = "-" if row.times_faster is None else f"{row.times_faster:.1f} times"
            lines.append((f"`{row.operation}`", row.shape, row.options, row.direction, milliseconds(row), bandwidth,
                          share(row.floor_share), faster))
    facts = results.facts
    closing = f"{facts['processor']}, {facts['threads']} threads, torch {facts['torch']}, {results.date}; medians."
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{closing}"


if __name__ == "__main__":
    print(as_markdown(read(Path(sys.argv[1])), sys.argv[2:]))
