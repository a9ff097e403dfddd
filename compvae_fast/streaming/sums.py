"""The sum of the parts of a long multiset, drawn chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from compvae_fast import ops
from compvae_fast.streaming.sources import blocks, opened

# Parts that are summed by one call of the kernel. Its sums are added in float64, in their order: this number, and not
# the size of a chunk, is what the last bits of the result depend on.
RUN = 4096
CHUNK = 64 * RUN


class Streamed(NamedTuple):
    """w_sum [n, D], how many parts it is the sum of, and how many have each label: counts [C] int64, or None."""

    w_sum: Tensor
    parts: int
    counts: Tensor | None = None


def prior_sum(
    labels: Any,
    mu_table: Tensor,
    logvar_table: Tensor,
    *,
    seed: int | Tensor | None = None,
    collapse: bool = False,
    set_index: Tensor | None = None,
    part_start: int = 0,
    first_label: int = 0,
    chunk: int = CHUNK,
    progress: Callable[[int], object] | None = None,
) -> Streamed:
    r"""Draw w~ = sum_i w_i, w_i ~ N(mu[l_i], sigma[l_i]^2), of labels that are read as they are needed.

        w~ = sum_i mu[l_i] + sigma[l_i] eps_i

    The noise of `compvae_fast.ops.prior_sum`; the sum is kept in float64. The bits depend neither on ``chunk`` nor on
    how the labels arrive.

    Args:
        labels: one multiset: the path of a file (see `open_parts`), an array or memory-mapped array [K], or an
            iterable of labels or of arrays of labels.
        mu_table, logvar_table: [C, D]; no gradient is recorded.
        seed: None (drawn with torch's default generator), an int or a 0-d int64 tensor.
        collapse: count the labels, and draw the sum at once.
        set_index: [n] indices of the sets in the noise: n draws in one reading. Default one, of set 0.
        part_start: index of the first part in the noise.
        first_label: the label of the tables' first row.
        chunk: parts held in memory at a time, rounded to multiples of 4096.
        progress: called with the number of parts done since it was last called.

    Returns:
        (w~ [n, D], float64 for float64 tables, else float32; the number of parts; how many have each label, [C]).

    Raises:
        TypeError, ValueError: naming the argument.
        IndexError: a label outside the tables, saying which part has it.

    >>> import torch
    >>> mu, logvar = torch.tensor([[1.0], [10.0]]), torch.full((2, 1), -torch.inf)  # no noise
    >>> prior_sum((i % 2 for i in range(100_000)), mu, logvar, seed=0)
    Streamed(w_sum=tensor([[550000.]]), parts=100000, counts=tensor([50000, 50000]))
    """
    classes = mu_table.shape[0]
    draw = _Draw(mu_table, logvar_table, seed, set_index, part_start)
    counts = torch.zeros(classes, dtype=torch.int64)
    for block in blocks(opened(labels), _rounded(chunk)):
        if block.dim() != 1 or block.is_floating_point():
            raise ValueError(f"labels: expected whole numbers [K], got {block.dtype} {list(block.shape)}")
        rows = block - first_label if first_label else block
        low, high = torch.aminmax(rows) if len(rows) else (0, 0)
        if low < 0 or high >= classes:
            where = int(((rows < 0) | (rows >= classes)).nonzero()[0])
            raise IndexError(
                f"labels: expected values in {first_label}..{first_label + classes - 1}, "
                f"got {int(block[where])} at part {draw.parts + where}"
            )
        counts += torch.bincount(rows, minlength=classes)
        if collapse:
            draw.parts += len(rows)
        else:
            draw.add_labels(rows)
        if progress is not None:
            progress(len(rows))
    return draw.collapsed(counts) if collapse else draw.finish(counts)


@torch.no_grad()
def prior_sum_of_network(
    features: Any,
    network: Callable[[Tensor], tuple[Tensor, Tensor]],
    *,
    seed: int | Tensor | None = None,
    set_index: Tensor | None = None,
    part_start: int = 0,
    chunk: int = RUN,
    progress: Callable[[int], object] | None = None,
) -> Streamed:
    r"""Draw w~ = sum_i w_i, w_i ~ N(mu(l_i), sigma(l_i)^2), a network giving each part's prior from its label.

    Args:
        features: one multiset of continuous labels: the path of a file (see `open_parts`), an array [K, F], or an
            iterable of arrays [n, F].
        network: features [n, F] -> (mu [n, D], logvar [n, D]); a function of each row alone.
        chunk: parts that the network sees at a time, rounded to multiples of 4096. What it gives may depend on that
            in its last bits, as matrix products do; the noise and the sum do not.
        seed, set_index, part_start, progress: as `prior_sum` takes them.

    Returns:
        (w~ [n, D], the number of parts, None). No gradient is recorded.

    >>> import torch
    >>> parts = torch.linspace(0, 1, 5)[:, None]
    >>> prior_sum_of_network(parts, lambda l: (l, torch.full_like(l, -torch.inf)), seed=0)
    Streamed(w_sum=tensor([[2.5000]]), parts=5, counts=None)
    """
    draw: _Draw | None = None
    done = 0
    for block in blocks(opened(features), _rounded(chunk)):
        if block.dim() != 2 or not block.is_floating_point():
            raise ValueError(f"features: expected floats [K, F], got {block.dtype} {list(block.shape)}")
        mu, logvar = network(block)
        if mu.dim() != 2 or len(mu) != len(block) or mu.shape != logvar.shape:
            raise ValueError(
                f"network: expected mu and logvar [{len(block)}, D], got {list(mu.shape)} and {list(logvar.shape)}"
            )
        if draw is None:
            draw = _Draw(mu, logvar, seed, set_index, part_start)
        draw.add_rows(mu, logvar)
        done += len(block)
        if progress is not None:
            progress(len(block))
    if draw is None:
        raise ValueError("features: expected at least one part: the width of w~ is not known without")
    return draw.finish()


def _rounded(chunk: int) -> int:
    if not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk: expected a positive integer, got {chunk!r}")
    return max(chunk // RUN, 1) * RUN


class _Draw:
    """n sums over the parts that have come so far."""

    def __init__(self, mu: Tensor, logvar: Tensor, seed, set_index: Tensor | None, part_start: int):
        self.tables = mu.detach(), logvar.detach()
        self.sets = torch.zeros(1, dtype=torch.int64) if set_index is None else set_index.to(torch.int64)
        if self.sets.dim() != 1:
            raise ValueError(f"set_index: expected shape [n], got {list(self.sets.shape)}")
        if seed is None:
            seed = torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64)
        self.seed, self.start, self.parts = seed, part_start, 0
        self.total = torch.zeros(len(self.sets), mu.shape[1], dtype=torch.float64)

    def add_labels(self, rows: Tensor) -> None:
        """Runs of RUN parts are sets of their own to the kernel, which so has work for all its threads."""
        whole = len(rows) - len(rows) % RUN
        for runs in (rows[:whole].view(-1, RUN), rows[whole:].view(1, -1)):
            if runs.numel():
                self._add_runs(runs)

    def add_rows(self, mu: Tensor, logvar: Tensor) -> None:
        offsets = torch.tensor([*range(0, len(mu), RUN), len(mu)])
        runs, start = len(offsets) - 1, self.start + self.parts
        for i in range(len(self.sets)):
            sums = ops.prior_sum(
                None, mu, logvar, offsets=offsets, seed=self.seed,
                set_index=self.sets[i].expand(runs), part_start=start + offsets[:-1],
            )
            for row in sums:
                self.total[i] += row
        self.parts += len(mu)

    def _add_runs(self, labels: Tensor) -> None:
        runs, size = labels.shape
        starts = self.start + self.parts + size * torch.arange(runs)
        sums = ops.prior_sum(
            labels if len(self.sets) == 1 else labels.repeat(len(self.sets), 1), *self.tables, seed=self.seed,
            set_index=self.sets.repeat_interleave(runs), part_start=starts.repeat(len(self.sets)),
        )
        for run in sums.view(len(self.sets), runs, -1).unbind(1):
            self.total += run
        self.parts += runs * size

    def finish(self, counts: Tensor | None = None) -> Streamed:
        wide = torch.float64 if self.tables[0].dtype == torch.float64 else torch.float32
        return Streamed(self.total.to(wide), self.parts, counts)

    def collapsed(self, counts: Tensor) -> Streamed:
        start = torch.full_like(self.sets, self.start)
        w_sum = ops.prior_sum(
            None, *self.tables, counts=counts.expand(len(self.sets), -1), seed=self.seed, set_index=self.sets,
            part_start=start,
        )
        return Streamed(w_sum, self.parts, counts)
