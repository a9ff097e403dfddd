"""The door of the operations over sets: dense, ragged, padded and nested tensors in, registered operations out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compvae_fast.ops import _checks

# The two sides of the operations that hold a posterior against a prior.
POSTERIOR = ("mu_q", "logvar_q", "rho_logits")
PRIOR = ("mu_p", "logvar_p")


def parts_of_sets(tensors: dict[str, Tensor], offsets: Tensor | None, lengths: Tensor | None, *sides: tuple[str, ...]):
    """Checks float tensors of parts, of one dtype on each side.

    Gives (tensors, ragged where they were nested; offsets; the number of sets; a function that nests a result again).
    """
    nest = _as_it_is
    if not _checks.plainly_alike(tensors):
        tensors, offsets, nest = unnested(tensors, offsets, lengths)
        _checks.RULES.alike(tensors, *sides)
    first = next(iter(tensors))
    return tensors, offsets, _checks.sets(first, tensors[first], offsets, lengths), nest


def noise_of_sets(
    like: Tensor, count: int, seed: int | Tensor | None, set_index: Tensor | None, part_start: Tensor | None
) -> Tensor:
    """Checks what tells the noise of a draw; gives the seed as a tensor."""
    _checks.noise_width(like.shape[-1])
    _checks.per_set_index("set_index", set_index, count, like)
    _checks.per_set_index("part_start", part_start, count, like)
    return _checks.seed_tensor(seed, like.device)


def _as_it_is(values: Tensor) -> Tensor:
    return values


def unnested(tensors: dict[str, Tensor], offsets: Tensor | None, lengths: Tensor | None, dims: int = 3):
    """Jagged nested tensors [B, j, ...] as ragged ones: (tensors, offsets, a function that nests a result again)."""
    for name, value in tensors.items():
        _checks.is_tensor(name, value)
    if not any([t.is_nested for t in tensors.values()]):
        return tensors, offsets, _as_it_is
    if offsets is not None or lengths is not None:
        raise ValueError("offsets, lengths: expected None beside nested tensors, which bring their own")
    flat, shared = {}, None
    jagged: dict[str, Any] = tensors  # jagged tensors have methods that Tensor does not declare
    for name, t in jagged.items():
        if not t.is_nested or t.layout != torch.jagged:
            raise TypeError(f"{name}: expected a nested tensor with layout torch.jagged like the others, got "
                            f"{'layout ' + str(t.layout) if t.is_nested else 'a plain tensor'}")
        if t.dim() != dims or t.lengths() is not None:
            raise ValueError(f"{name}: expected a contiguous jagged tensor of {dims} dimensions, got one of {t.dim()}"
                             f"{' and holes' if t.lengths() is not None else ''}")
        shared = t.offsets() if shared is None else shared
        if t.offsets() is not shared and not torch.equal(t.offsets(), shared):
            raise ValueError(f"{name}: expected the offsets of the other nested tensors, got different ones")
        flat[name] = t.values()
    first = next(iter(jagged.values()))

    def nest(values: Tensor) -> Tensor:
        return torch.nested.nested_tensor_from_jagged(values, shared, min_seqlen=first._maybe_min_seqlen,
                                                      max_seqlen=first._maybe_max_seqlen)

    return flat, shared, nest


def layout_check(first: str, draws: bool = False) -> Callable[..., None]:
    """The check of index values that a registered operation makes, given the name of a tensor of parts."""

    def check(*, offsets=None, lengths=None, set_index=None, part_start=None, **named):
        like = named[first]
        if offsets is not None or lengths is not None:
            _checks.layout_values(like.shape[0], None if offsets is not None else like.shape[1], offsets, lengths)
        if draws and (set_index is not None or part_start is not None):
            _checks.noise_values(like.shape[0] if offsets is not None else like.shape[1], like.shape[-1], set_index,
                                 part_start)

    return check


def count_of(like: Tensor, offsets: Tensor | None) -> int:
    """The number of sets B."""
    return like.shape[0] if offsets is None else offsets.shape[0] - 1
