"""The layer in which the parts of a set see each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .residual import Residual
from .sets import Sets, linear_of_both


class GraphBlock(nn.Module):
    """h'_i = f(h_i, sum_{j != i} g(h_j)) on the fully connected graph of each set's parts.

    Paper order: g = Residual(N), ELU, Residual(N); f = tanh of the sum, Residual(N), concatenate
    with h_i, Linear(2N, M), ELU, Residual(M). The order of the authors' released code
    (``released=True``): g = ELU(Residual(N)); f = Residual(N) of the sum, tanh, Residual(N),
    concatenate, then with ``wide=True`` (its 1D problem) Linear(2N, N+M), ELU, Residual(N+M), ELU,
    Linear(N+M, M), and with ``wide=False`` (its 2D problem) Linear(2N, M), ELU, Residual(M).

    Args:
        n_in: N, width of the incoming states.
        n_out: M, width of the outgoing ones.
        context: width of a per-set vector that enters f and g (thesis eq. 9.14), or 0.
        reduce: "sum", or "mean" over the other parts (thesis eq. 9.13).
        released, wide: the order, see above.

    Source: paper eq. 5 and table 4; thesis eqs. 9.13, 9.14.

    >>> import torch
    >>> block = GraphBlock(8, 4)
    >>> block(torch.randn(5, 8), offsets=torch.tensor([0, 2, 5])).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        context: int = 0,
        reduce: str = "sum",
        released: bool = False,
        wide: bool = True,
    ) -> None:
        super().__init__()
        if reduce not in ("sum", "mean"):
            raise ValueError(f"reduce: expected 'sum' or 'mean', got {reduce!r}")
        self.reduce, self.released = reduce, released
        self.g_first = Residual(n_in)
        self.g_second = None if released else Residual(n_in)
        self.of_sum = Residual(n_in) if released else None
        self.of_others = Residual(n_in)
        middle = n_in + n_out if released and wide else n_out
        self.combine = nn.Linear(2 * n_in, middle)
        self.out = Residual(middle)
        self.narrow = nn.Linear(middle, n_out) if released and wide else None
        self.context_g = nn.Linear(context, n_in, bias=False) if context else None
        self.context_f = nn.Linear(context, middle, bias=False) if context else None

    def forward(
        self,
        h: Tensor,
        *,
        context: Tensor | None = None,
        shared: Tensor | None = None,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        sets: Sets | None = None,
        aggregate: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """New states of all parts.

        Args:
            h: [N, P] with offsets, [B, K, P] otherwise; P = n_in, or n_in - S beside ``shared``.
            context: [B, C], when the block was built with a context.
            shared: [B, S], the leading part of the state where all parts of a set agree on it;
                its products are taken once per set.
            offsets, lengths: [B+1] or [B], the layout.
            sets: the layout ready made, instead of the two.
            aggregate: in place of ``ops.sum_minus_self``, where the sets go beyond what is here.

        Returns:
            [N, n_out] or [B, K, n_out].

        Raises:
            ValueError: a context given to a block without one or the reverse, or a width that does not fit.
        """
        if sets is None:
            sets = Sets.of(h.select(-1, 0), offsets, lengths)
        if (context is None) != (self.context_g is None):
            raise ValueError(
                f"context: expected {'a per-set vector' if self.context_g is not None else 'None'}, "
                f"got {'None' if context is None else list(context.shape)}"
            )
        width = h.shape[-1] + (0 if shared is None else shared.shape[-1])
        if width != self.g_first.fc1.in_features:
            raise ValueError(
                f"h: expected states of width {self.g_first.fc1.in_features}, got {width}"
            )
        aggregate = aggregate or sets.operation("sum_minus_self")
        others = aggregate(
            self._g(h, shared, context, sets),
            pre="elu" if self.released else None,
            post=None if self.released else "tanh",
            reduce=self.reduce,
            **sets.where,
        )
        return self._f(h, shared, context, others, sets)

    def _g(self, h: Tensor, shared: Tensor | None, context: Tensor | None, sets: Sets) -> Tensor:
        first = self.g_first
        inner = linear_of_both(first.fc1.weight, first.fc1.bias, h, shared, sets)
        if context is not None and self.context_g is not None:
            inner = inner + sets.to_parts(self.context_g(context))
        state = h
        if shared is not None:
            rows = sets.to_parts(shared)
            state = torch.cat([rows.expand(*h.shape[:-1], rows.shape[-1]), h], dim=-1)
        message = state + first.fc2(F.elu(inner))
        return message if self.g_second is None else self.g_second(F.elu(message))

    def _f(
        self, h: Tensor, shared: Tensor | None, context: Tensor | None, others: Tensor, sets: Sets
    ) -> Tensor:
        if self.of_sum is not None:
            others = torch.tanh(self.of_sum(others))
        others = self.of_others(others)
        width = others.shape[-1]
        weight = self.combine.weight
        mixed = linear_of_both(weight[:, width:], self.combine.bias, h, shared, sets)
        mixed = mixed + F.linear(others, weight[:, :width])
        if context is not None and self.context_f is not None:
            mixed = mixed + sets.to_parts(self.context_f(context))
        mixed = self.out(F.elu(mixed))
        return mixed if self.narrow is None else self.narrow(F.elu(mixed))
