"""What the operations on parts refuse: an error that names the argument, what was expected and what came."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from .conformity import OPERATIONS

B, K, D = 2, 3, 4
ALL = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
COUPLED = pytest.mark.parametrize("operation", [o for o in OPERATIONS.values() if o.coupled],
                                  ids=[o.name for o in OPERATIONS.values() if o.coupled])
DRAWING = pytest.mark.parametrize("operation", [o for o in OPERATIONS.values() if o.draws],
                                  ids=[o.name for o in OPERATIONS.values() if o.draws])


def refuses(operation, error, message, shape=(B, K, D), keywords=None, **changed):
    arguments = {name: torch.zeros(shape) for name in operation.arguments} | changed
    with pytest.raises(error, match=message):
        operation.function(**arguments, **(keywords or {}))


@ALL
def test_types_and_dtypes(operation):
    first = operation.arguments[0]
    refuses(operation, TypeError, f"^{first}: expected a torch.Tensor, got list$", **{first: [1.0]})
    refuses(operation, TypeError, f"^{first}: expected a torch.Tensor, got NoneType$", **{first: None})
    integer = torch.zeros(B, K, D, dtype=torch.int64)
    refuses(operation, TypeError, f"^{first}: expected dtype float32, .*, got torch.int64$", **{first: integer})


@ALL
@pytest.mark.parametrize("make, got", [
    (torch.Tensor.to_sparse, "torch.sparse_coo"), (torch.Tensor.to_mkldnn, "torch._mkldnn")])
def test_layouts_of_memory(operation, make, got):
    for name in operation.arguments:
        refuses(operation, TypeError, f"^{name}: expected a dense tensor, got a {got} one$",
                **{name: make(torch.zeros(B, K, D))})
    refuses(operation, TypeError, "^lengths: expected a dense tensor, got a torch.sparse_coo one$",
            keywords={"lengths": torch.tensor([1, 2]).to_sparse()})


@ALL
def test_one_side_has_one_dtype(operation):
    for side in operation.sides:
        for name in side[1:]:
            refuses(operation, TypeError, f"^{name}: expected dtype torch.float32 like {side[0]}, got torch.float64$",
                    **{name: torch.zeros(B, K, D, dtype=torch.float64)})


@ALL
def test_shapes(operation):
    first, *others = operation.arguments
    for name in others:  # no broadcasting
        for wrong in ((B, K, 1), (1, K, D), (B, K + 1, D)):
            message = rf"^{name}: expected shape \[2, 3, 4\] like {first}, got {re.escape(str(list(wrong)))}$"
            refuses(operation, ValueError, message, **{name: torch.zeros(wrong)})
    refuses(operation, ValueError, rf"^{first}: expected shape \[B, K, D\] \(or \[N, D\] with offsets\), got \[3, 4\]$",
            shape=(K, D))
    refuses(operation, ValueError, rf"^{first}: expected shape \[N, D\] with offsets, got \[2, 3, 4\]$",
            keywords={"offsets": torch.tensor([0, 3])})


@ALL
def test_devices(operation):
    first, *others = operation.arguments
    elsewhere = torch.zeros(B, K, D, device="meta")
    for name in others:
        refuses(operation, ValueError, f"^{name}: expected device cpu like {first}, got meta$", **{name: elsewhere})
    refuses(operation, ValueError, f"^lengths: expected device cpu like {first}, got meta$",
            keywords={"lengths": torch.zeros(B, dtype=torch.int64, device="meta")})


@ALL
@pytest.mark.parametrize(("offsets", "message"), [
    (torch.tensor([0, 2]), r"expected to run from 0 to N = 3, got 0 to 2$"),
    (torch.tensor([1, 3]), r"expected to run from 0 to N = 3, got 1 to 3$"),
    (torch.tensor([0, 3, 2, 3], dtype=torch.int32), r"expected non-decreasing values, got 3 then 2 at set 1$"),
    (torch.tensor([[0, 3]]), r"expected shape \[B \+ 1\], got \[1, 2\]$"),
    (torch.tensor([], dtype=torch.int64), r"expected shape \[B \+ 1\], got \[0\]$"),
], ids=str)
def test_offsets(backend, operation, offsets, message):
    refuses(operation, ValueError, f"^offsets: {message}", shape=(K, D), keywords={"offsets": offsets})


@ALL
def test_types_of_offsets_and_lengths(operation):
    refuses(operation, TypeError, "^offsets: expected dtype int64 or int32, got torch.float32$", shape=(K, D),
            keywords={"offsets": torch.tensor([0.0, 3.0])})
    refuses(operation, TypeError, "^lengths: expected a torch.Tensor, got list$", keywords={"lengths": [1, 1]})
    refuses(operation, ValueError, "^lengths: expected None beside offsets", shape=(K, D),
            keywords={"offsets": torch.tensor([0, 3]), "lengths": torch.tensor([3])})


@ALL
@pytest.mark.parametrize(("lengths", "message"), [
    (torch.tensor([1, 4]), r"expected values in \[0, K = 3\], got 4$"),
    (torch.tensor([-1, 2], dtype=torch.int32), r"expected values in \[0, K = 3\], got -1$"),
    (torch.tensor([1]), r"expected shape \[2\] \(\[B\]\), got \[1\]$"),
], ids=str)
def test_lengths(backend, operation, lengths, message):
    refuses(operation, ValueError, f"^lengths: {message}", keywords={"lengths": lengths})


@COUPLED
@pytest.mark.parametrize("value", ["Scaled", None, 1, "", ["unit"], np.array(["unit", "unit"])])
def test_couplings(operation, value):
    refuses(operation, ValueError, "^coupling: expected 'unit' or 'scaled', got ", keywords={"coupling": value})


@DRAWING
@pytest.mark.parametrize(("seed", "error", "message"), [
    (1.5, TypeError, "got float$"), ("1", TypeError, "got str$"), (True, TypeError, "got bool$"),
    (torch.tensor(1, dtype=torch.int32), TypeError, "got dtype torch.int32$"),
    (torch.tensor([1]), ValueError, r"expected a 0-d tensor, got shape \[1\]$"),
    (torch.zeros((), dtype=torch.int64, device="meta"), ValueError, "got meta$"),
    (torch.zeros((), dtype=torch.int64).to_sparse(), TypeError, "got a torch.sparse_coo one$"),
], ids=str)
def test_seeds(operation, seed, error, message):
    refuses(operation, error, f"^seed: .*{message}", keywords={"seed": seed})


@DRAWING
@pytest.mark.parametrize(("name", "limit"), [("set_index", 2**48 - 1), ("part_start", 2**48 - K + 1)])
def test_indices_of_the_noise(backend, operation, name, limit):
    for value in (-1, limit):
        refuses(operation, ValueError, rf"^{name}: expected values in \[0, {limit}\), got {value}$",
                keywords={name: torch.tensor([0, value])})
    operation.function(*(torch.zeros(B, K, D) for _ in operation.arguments), **{name: torch.tensor([0, limit - 1])})
    refuses(operation, ValueError, rf"^{name}: expected shape \[2\] \(\[B\]\), got \[1\]$",
            keywords={name: torch.tensor([0])})
    refuses(operation, TypeError, f"^{name}: expected dtype int64 or int32, got torch.float32$",
            keywords={name: torch.tensor([0.0, 1.0])})


@ALL
def test_nested(operation):
    nested = torch.nested.nested_tensor([torch.zeros(2, D), torch.zeros(1, D)], layout=torch.jagged)
    other = torch.nested.nested_tensor([torch.zeros(1, D), torch.zeros(2, D)], layout=torch.jagged)
    first, *others = operation.arguments
    all_nested = {name: nested for name in operation.arguments}
    with pytest.raises(ValueError, match="^offsets, lengths: expected None beside nested tensors"):
        operation.function(**all_nested, lengths=torch.tensor([1, 1]))
    for name in others:
        with pytest.raises(ValueError, match=f"^{name}: expected the offsets of the other nested tensors"):
            operation.function(**{**all_nested, name: other})
        with pytest.raises(TypeError, match=f"^{name}: expected a nested tensor .*, got a plain tensor$"):
            operation.function(**{**all_nested, name: torch.zeros(3, D)})


@pytest.mark.parametrize(("operation", "keyword", "value", "error", "message"), [
    ("sum_minus_self", "pre", "relu", ValueError, "^pre: expected None or 'elu', got 'relu'$"),
    ("sum_minus_self", "post", "elu", ValueError, "^post: expected None or 'tanh', got 'elu'$"),
    ("sum_minus_self", "reduce", None, ValueError, "^reduce: expected 'sum' or 'mean', got None$"),
    ("correlated_normal_rsample", "with_log_prob", 1, TypeError, "^with_log_prob: expected a bool, got int$"),
    ("posterior_sum_and_log_ratio", "path", "yes", TypeError, "^path: expected a bool, got str$"),
])
def test_options(operation, keyword, value, error, message):
    refuses(OPERATIONS[operation], error, message, keywords={keyword: value})


@ALL
def test_what_follows_the_semicolon_is_keyword_only(operation):
    with pytest.raises(TypeError, match="positional argument"):
        operation.function(*(torch.zeros(B, K, D) for _ in operation.arguments), None)
