"""Sets of 100,000 parts against the reference."""

from __future__ import annotations

import pytest
import torch

from .conformity import label, variants
from .test_conformity import conforms, prepared

MANY = 10**5
FLOATS = (torch.float32, torch.float32)


@pytest.mark.parametrize("extreme", [False, True], ids=["tame", "extreme"])
@pytest.mark.parametrize("index", range(len(variants())), ids=[label(v) for v in variants()])
def test_operations_on_parts(backend, index, extreme):
    conforms(*prepared(index, (MANY,), FLOATS, width=3, means=False, extreme=extreme), "dense", FLOATS)
