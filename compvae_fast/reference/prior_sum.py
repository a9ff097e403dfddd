"""The sum of parts drawn from the prior of their labels."""

import torch
from torch import Tensor

from compvae_fast.reference.dtypes import like_wide
from compvae_fast.reference.layout import Layout, expand_to, one_row_at_least, tree_sum
from compvae_fast.reference.noise import set_normals64


def prior_sum(
    labels: Tensor | None,
    mu_table: Tensor,
    logvar_table: Tensor,
    *,
    counts: Tensor | None = None,
    offsets: Tensor | None = None,
    lengths: Tensor | None = None,
    seed: Tensor,
    collapse: bool = False,
    set_index: Tensor | None = None,
    part_start: Tensor | None = None,
) -> Tensor:
    """w~ = sum_i mu[l_i] + sigma[l_i] eps_i, [B, D].

    collapse=True, and counts [B, C] in place of labels, draw once from N(sum_c n_c mu_c, sum_c n_c sigma_c^2) with
    the noise of part 0. labels None without counts: row i of the tables is part i, cut into sets by offsets.
    """
    mu, logvar = mu_table.double(), logvar_table.double()
    if counts is not None:
        return like_wide(_collapsed(*_weighted(counts, mu, logvar), seed, set_index, part_start), mu_table)
    if labels is None:
        labels = torch.arange(mu.shape[0], device=mu.device)
    layout = Layout.of(labels, offsets, lengths)
    rows = layout.padded(labels.to(torch.int64))
    centre, spread = (_rows(layout, table, rows) for table in (mu, logvar))
    if collapse:
        moments = layout.sum(centre), layout.sum(torch.exp(spread))
        return like_wide(_collapsed(*moments, seed, set_index, part_start), mu_table)
    eps = set_normals64(seed, tuple(centre.shape), set_index, part_start)
    return like_wide(layout.sum(centre + torch.exp(spread / 2) * eps), mu_table)


def _rows(layout: Layout, table: Tensor, labels: Tensor) -> Tensor:
    """table[labels] [B, K, D], 0 in empty slots; a table may have no row when no slot holds a part."""
    return torch.where(layout.mask, one_row_at_least(table, 0)[labels], 0)


def _weighted(counts: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """sum_c n_c mu_c and sum_c n_c sigma_c^2, [B, D]; a class that a set lacks does not reach it, be it NaN."""
    weights = counts.double()[..., None]
    shape = torch.Size((*counts.shape, mu.shape[-1]))
    mu, logvar = (torch.where(weights > 0, expand_to(table, shape), 0) for table in (mu, logvar))
    return tree_sum(weights * mu, 1), tree_sum(weights * torch.exp(logvar), 1)


def _collapsed(
    mean: Tensor, variance: Tensor, seed: Tensor, set_index: Tensor | None, part_start: Tensor | None
) -> Tensor:
    eps = set_normals64(seed, (mean.shape[0], 1, mean.shape[1]), set_index, part_start)[:, 0]
    positive = variance != 0  # NaN included; the root of an empty set's 0 has no gradient
    return mean + torch.where(positive, torch.sqrt(torch.where(positive, variance, 1)), 0) * eps
