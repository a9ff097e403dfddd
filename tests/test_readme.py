"""What the README shows runs, and what it says of the backends and the Makefile holds."""

import importlib.util
import re
from pathlib import Path

import pytest

import compvae_fast
from compvae_fast import backends, ops

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def backend_table() -> str:
    """The table of operations and backends, as the README must hold it."""
    columns = list(compvae_fast.backends())
    rows = [(f"`{name}`", name) for name in ops.__all__] + [("`compvae_fast.random`", "noise")]
    lines = [f"| operation | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for shown, name in rows:
        cells = ("yes" if backends._has(backend, name) else "no" for backend in columns)
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    # what no GPU has seen is marked until `make gpu-check` has run on one
    measured = backends.gpu_choice()["measured"]
    on_gpu = f"run on {measured['device']}" if measured else "compiled and interpreted, not run on a GPU"
    tried = (on_gpu if name in ("cuda", "triton") else "run" for name in columns)
    lines.append(f"| how tried | {' | '.join(tried)} |")
    return "\n".join(lines)


@pytest.mark.parametrize("block", BLOCKS)
def test_its_examples_run(block):
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["w_sum"].shape == (64, 256) and names["mu_q"].grad is not None
    assert names["losses"].total.shape == (8,)


def test_it_has_an_example():
    assert len(BLOCKS) == 1
    code = [line for line in BLOCKS[0].splitlines() if line and not line.startswith("#")]
    assert len(code) <= 10


def test_its_table_is_what_the_backends_offer():
    assert backend_table() in README, f"README.md must hold\n{backend_table()}"


def test_its_tables_of_speed_are_those_of_the_stored_results():
    spec = importlib.util.spec_from_file_location("table", ROOT / "bench" / "table.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    assert README.count("bench/results/") >= 1
    assert table.with_tables(README) == README, "run python bench/table.py --readme"


def test_its_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^ +make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_its_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target.partition("#")[0]).exists(), target
