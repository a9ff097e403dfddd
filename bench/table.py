"""Runs of the suite as Markdown tables.

    python bench/table.py bench/results/<machine> [OPERATION...]    every shape, on standard output
    python bench/table.py --readme                                  writes the README's tables of bench/results
"""

from __future__ import annotations

import sys
from pathlib import Path

from compvae_fast.bench.contestants import PREFIX
from compvae_fast.bench.page import milliseconds, share, tables
from compvae_fast.bench.store import Results, read
from compvae_fast.training.files import write_atomically

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
HEADING = ("operation", "sets x parts x coordinates", "options", "pass", "ms", "GB/s", "share of the floor",
           "eager ms", "torch.compile ms", "beside the faster of the two", "the floor beside it")
# The README shows each operation at one of these shapes, the first of them that it was timed at.
SHOWN = ("256x16x1024", "256x16x2048", "1x1000000x1024", "1x1000000000000x1024", "256x3x1024")
BEGIN, END = "<!-- made by `python bench/table.py --readme` -->", "<!-- up to here -->"


def as_markdown(results: Results, operations: list[str]) -> str:
    """The lines of the package's backends, scaling series aside; of the named operations, or of all."""
    return _table(results, [line for name, lines in tables(results.rows).items() for line in lines
                            if not operations or name in operations])


def for_readme(results: Results) -> str:
    """One shape of each operation, with its first options."""
    chosen = []
    for lines in tables(results.rows).values():
        shapes = [line["row"].shape for line in lines]
        shape = next((s for s in SHOWN if s in shapes), shapes[0])
        of_shape = [line for line in lines if line["row"].shape == shape]
        chosen += [line for line in of_shape if line["row"].options == of_shape[0]["row"].options]
    return _table(results, chosen)


def readme_tables() -> str:
    """The part of the README between its two markers: a table for each machine."""
    folders = sorted(path for path in RESULTS.iterdir() if path.is_dir())
    more = "[More shapes, options and rivals](bench/results/{}/rows.csv)."
    told = [f"{for_readme(read(folder))} {more.format(folder.name)}" for folder in folders]
    return "\n\n".join([BEGIN, *told, END])


def with_tables(readme: str) -> str:
    """The README's text with its tables made anew."""
    before, _, rest = readme.partition(BEGIN)
    return before + readme_tables() + rest.partition(END)[2]


def _table(results: Results, lines: list[dict]) -> str:
    cells = [HEADING, ("---",) * len(HEADING)]
    for line in lines:
        row = line["row"]
        assert row.implementation.startswith(PREFIX)
        bandwidth = "-" if row.gb_per_s is None else f"{row.gb_per_s:.1f}"
        faster = "-" if row.times_faster is None else f"{row.times_faster:.1f} times"
        # what a kernel at the floor would reach
        at_floor = f"{row.times_faster / row.floor_share:.1f}" if row.times_faster and row.floor_share else "-"
        cells.append((f"`{row.operation}`", row.shape, row.options, row.direction, milliseconds(row), bandwidth,
                      share(row.floor_share), milliseconds(line["eager"]), milliseconds(line["compiled"]), faster,
                      at_floor))
    facts = results.facts
    days = sorted({line["row"].date[:10] for line in lines})
    closing = (f"{facts['processor']}, {facts['threads']} threads, torch {facts['torch']}, {lines[0]['row'].dtype}, "
               f"{' to '.join(dict.fromkeys((days[0], days[-1])))}; medians." if lines else "")
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + f"\n\n{closing}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--readme"]:
        readme = ROOT / "README.md"
        write_atomically(readme, with_tables(readme.read_text(encoding="utf-8")).encode())
    else:
        print(as_markdown(read(Path(sys.argv[1])), sys.argv[2:]))
