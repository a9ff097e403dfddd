"""The examples run, small; and the page that shows their changed lines shows the lines that they have."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = {"released_style": None, "pyg_aggregation": "torch_geometric", "padded_set_vae": None, "pyro_guide": "pyro"}
SECTIONS = {"A VAE in the style of the paper's released code": "released_style", "PyTorch Geometric": "pyg_aggregation",
            "A padded set-VAE with masks": "padded_set_vae", "Pyro": "pyro_guide"}
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_all_examples_are_known():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {*EXAMPLES, "comparison"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs_and_its_results_are_equal(name):
    if EXAMPLES[name] and importlib.util.find_spec(EXAMPLES[name]) is None:
        pytest.skip(f"{EXAMPLES[name]} is not installed")
    done = subprocess.run([sys.executable, f"examples/{name}.py", "--small", "--seconds", "0.01"], cwd=ROOT,
                          env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (compared,) = (line for line in lines if "differ by" in line)
    assert max(float(value) for value in re.findall(r"differ by (\S+?)(?:,|$)", compared)) < 1e-4
    assert sum(bool(re.search(r"ms before, .* ms after, .* times faster", line)) for line in lines) >= 1
    if name == "padded_set_vae":
        assert "after, with 1e5 in the padding: gradients are finite" in lines


def test_comparison_ends_where_results_differ():
    code = ("import torch; from comparison import Side, equal; x = torch.ones(3, requires_grad=True)\n"
            "equal('squares', Side(lambda: x ** 2, [x]), Side(lambda: x ** 2 * {}, [x]))")
    for factor, status in (("1.00001", 0), ("1.001", 1), ("float('nan')", 1)):
        done = subprocess.run([sys.executable, "-c", code.format(factor)], cwd=ROOT / "examples", env=ENVIRONMENT,
                              capture_output=True)
        assert done.returncode == status


@pytest.mark.parametrize("section", SECTIONS)
def test_page_shows_the_lines_of_the_examples(section):
    page = (ROOT / "docs" / "adoption.md").read_text()
    text = page.split(f"\n## {section}\n")[1].split("\n## ")[0]
    source = (ROOT / "examples" / f"{SECTIONS[section]}.py").read_text().splitlines()
    shown = [line[1:] for block in re.findall(r"```diff\n(.*?)```", text, re.S) for line in block.splitlines()]
    assert shown
    assert [line for line in shown if line not in source] == []
