"""The documents' examples run, their links lead somewhere, and the files that they name are there."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from compvae_fast import _loading, ops

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
names = pytest.mark.parametrize("path", DOCS, ids=[path.name for path in DOCS])


@names
def test_examples_run(path):
    if "compvae_fast import numpy" in path.read_text() and (reason := _loading.reason_missing()):
        pytest.skip(f"compvae_fast.numpy needs the native module: {reason}")
    failed, attempted = doctest.testfile(str(path), module_relative=False)
    assert not failed
    assert attempted or ">>>" not in path.read_text()


@names
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target.partition("#")[0]).exists(), target


@names
def test_files_that_are_named_are_there(path):
    for named in re.findall(r"`((?:compvae_fast|csrc|kernels|tests|docs|examples)/[\w./]+)`", path.read_text()):
        assert (ROOT / named).exists(), named


def test_every_operation_has_the_files_of_the_table():
    rows = re.findall(r"^\| `([^`]+<name>[^`]+)` \|", (ROOT / "docs/adding-an-operation.md").read_text(), re.MULTILINE)
    assert len(rows) >= 6
    for row in rows:
        for operation in ops.__all__:
            assert (ROOT / row.replace("<name>", operation)).exists(), row.replace("<name>", operation)


def test_the_site_is_built(tmp_path):
    """Every page and every public module, links between the pages included."""
    for package in ("pdoc", "pyro"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    site = tmp_path / "site"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, ROOT / "docs/build.py", site], env=environment, capture_output=True,
                          text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.name for path in site.glob("*.html")}
    assert pages == {"index.html", *(path.with_suffix(".html").name for path in DOCS)}
    for page in pages:
        for target in re.findall(r'(?:href|src)="([^"#:]+)', (site / page).read_text()):
            assert (site / target).exists(), f"{page}: {target}"
    functions = (site / "api/compvae_fast/ops.html").read_text()
    assert all(f'id="{operation}"' in functions for operation in ops.__all__)
