"""Every backend, dtype, layout and coupling of the operations on parts, forward and backward, against the reference."""

from __future__ import annotations

import functools

import pytest
import torch

from .conformity import DTYPES, OPERATIONS, label, make, variants
from .judge import close, error, holds, representable, rounding, strictness
from .sets import LAYOUTS

MIXED = ((torch.bfloat16, torch.float32), (torch.float32, torch.float64))
RAGGED = (33, 0, 1, 5, 2, 65)
COUNTS = (0, 1, 2, 32, 64, 65, 130, 600)
VARIANTS = variants()


def dtype_names(dtypes) -> str:
    return "-".join(str(d).removeprefix("torch.") for d in dict.fromkeys(dtypes))


def rows():
    """Every variant with every pair of dtypes that its sides may have."""
    for index, variant in enumerate(VARIANTS):
        two = len(OPERATIONS[variant[0]].sides) == 2
        for dtypes in (*((d, d) for d in DTYPES), *(MIXED if two else ())):
            yield pytest.param(index, dtypes, id=f"{label(variant)}-{dtype_names(dtypes)}")


@functools.cache
def prepared(index: int, sizes, dtypes, **keywords):
    case = make(VARIANTS[index], sizes, dtypes, **keywords)
    return case, *case.expected()


def conforms(case, expected, expected_gradients, layout, dtypes):
    outputs, gradients, padding = case.call(layout)
    operation = case.operation
    for kind, output, truth, allowed in zip(operation.outputs, outputs, expected, operation.allowed):
        narrow = kind in ("parts", "moment") or dtypes[0].itemsize > 2
        assert output.dtype == (dtypes[0] if narrow else torch.float32)
        close(f"{operation.name} {kind}", output, truth, allowed(case, truth))
    allowed = operation.gradient_allowed(case, expected_gradients)
    for (name, x), gradient, truth, bound in zip(case.rows.items(), gradients, expected_gradients, allowed):
        assert gradient.dtype == x.dtype
        truth = representable(truth, x.dtype)
        excess = (error(gradient, truth) - rounding(truth, x.dtype)).clamp(min=0).nan_to_num(nan=torch.inf)
        if operation.by_norm:
            excess = case.sizes.total(excess.square()).sqrt()
        # A float64 side beside a float32 one is no more exact than that one.
        holds(f"error of the gradient of {name}", excess, strictness(dtypes[0]) * bound)
    for rest in padding:
        assert not rest.any(), "what lies beyond lengths is not zero"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("index", "dtypes"), list(rows()))
def test_every_layout_and_dtype(backend, index, dtypes, layout):
    sizes = RAGGED if layout in ("ragged", "padded", "nested") else (65, 65)
    conforms(*prepared(index, sizes, dtypes), layout, dtypes)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("index", range(len(VARIANTS)), ids=[label(v) for v in VARIANTS])
def test_the_extreme_range(backend, index, dtype, count):
    """|nu| to 80, sigma^2/s^2 from 1e-6 to 1e6; means 0, so that the noise itself is judged."""
    dtypes = (dtype, dtype)
    sizes = (count,) * max(1, 64 // max(count, 4))
    conforms(*prepared(index, sizes, dtypes, extreme=True, means=False), "dense", dtypes)


@pytest.mark.parametrize("index", [i for i, (name, _) in enumerate(VARIANTS) if len(OPERATIONS[name].sides) == 2],
                         ids=[label(v) for v in VARIANTS if len(OPERATIONS[v[0]].sides) == 2])
def test_a_few_huge_log_variances(backend, index):
    """Of one side, among moderate ones: kernels that take quicker steps for those must see them.

    e^-100 is no normal float32.
    """
    dtypes = (torch.float32, torch.float32)
    case = make(VARIANTS[index], (65, 2, 40), dtypes, means=False)
    case.rows["logvar_q"][5, ::7] = -100
    case.rows["logvar_p"][50, 3::7] = 100
    conforms(case, *case.expected(), "ragged", dtypes)


@pytest.mark.parametrize("count", (1, 2, 16, 65))
@pytest.mark.parametrize("index", [i for i, (name, _) in enumerate(VARIANTS) if OPERATIONS[name].coupled],
                         ids=[label(v) for v in VARIANTS if OPERATIONS[v[0]].coupled])
def test_scales_that_are_nearly_equal(backend, index, count):
    """There the noise of w~ is as small as the differences of the scales, and they must not be taken by subtraction."""
    dtypes = (torch.float32, torch.float32)
    for scales in (0.0, 1e-7, 1e-3):
        conforms(*prepared(index, (count, count), dtypes, extreme=True, means=False, scales=scales), "dense", dtypes)


@pytest.mark.parametrize("logits", [(-11.4, -5.7, -13.6), (-9.0, 1.0, 1.05), (-9.0, 6.0, 1.0)],
                         ids=["little", "shared", "one"])
@pytest.mark.parametrize("outlier", (0, 1, 2))
@pytest.mark.parametrize("index", [i for i, (name, _) in enumerate(VARIANTS) if "log_ratio" in name],
                         ids=[label(v) for v in VARIANTS if "log_ratio" in v[0]])
def test_a_part_with_a_large_gradient_and_a_small_rho(backend, index, outlier, logits):
    """The others' gradients, far smaller, must not be taken relative to its: whatever its place, and whether sum rho is
    little, shared by two parts or nearly all one's."""
    dtypes = (torch.float32, torch.float32)
    case = make(VARIANTS[index], (3,) * 16, dtypes, means=False)
    middle = (("logvar_q", (-4.7, 10.3, -7.1)), ("logvar_p", (-9.5, 22.6, 4.4)), ("rho_logits", logits))
    for name, numbers in middle:
        case.rows[name] = case.rows[name] / 8 + torch.tensor(numbers).roll(outlier).repeat(16)[:, None]
    conforms(case, *case.expected(), "dense", dtypes)


@pytest.mark.parametrize("index", [i for i, (name, _) in enumerate(VARIANTS) if OPERATIONS[name].draws],
                         ids=[label(v) for v in VARIANTS if OPERATIONS[v[0]].draws])
def test_the_indices_of_the_noise(backend, index):
    """Forward and backward draw the noise of set_index and part_start, beyond 32 bits too."""
    dtypes = (torch.float32, torch.float32)
    case = make(VARIANTS[index], (33, 0, 70), dtypes)
    case.keywords = {**case.keywords, "seed": -(2**40) - 3, "set_index": torch.tensor([7, 2, 2**47 + 2**33 + 1]),
                     "part_start": torch.tensor([3, 1, 2**32 - 40], dtype=torch.int64)}
    conforms(case, *case.expected(), "ragged", dtypes)
