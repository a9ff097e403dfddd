"""Functions that look at the values of tensors, which compiled code cannot do in its midst."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def opaque(fake: Callable[..., Tensor]) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Makes a function of annotated arguments, whose result is a new contiguous tensor, one operation of
    compiled code.

    Elsewhere it is called as it is. ``fake`` takes the same arguments and gives an empty tensor like the result.
    """

    def decorate(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = f"compvae_fast::{function.__name__.lstrip('_')}"
        operation = torch.library.custom_op(name, function, mutates_args=())
        operation.register_fake(fake)

        @functools.wraps(function)
        def called(*arguments):
            return operation(*arguments) if torch.compiler.is_compiling() else function(*arguments)

        return called

    return decorate
