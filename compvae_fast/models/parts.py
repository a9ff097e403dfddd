"""A whole taken apart: the latents of its parts, which can be added to, removed and replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..nn import Sets

if TYPE_CHECKING:
    from .compvae import CompVAE


@dataclass(frozen=True)
class Parts:
    """A batch of multisets of parts' latents; every edit returns a new one.

    ``model.encode`` and ``model.prior_parts`` make them, ``model.decode`` turns them into wholes. An edit
    acts on every set of the batch; the whole's own latent z stays as it is.

    Args:
        model: the CompVAE the latents belong to.
        w: [B, K, D] dense or padded, [N, D] ragged.
        labels: [B, K] or [N], int64, as the user writes them.
        offsets: [B+1] for ragged sets.
        lengths: [B] for padded sets.
        z: [B, Z], or None for z of its prior.
        features: continuous features of the parts, like labels with F numbers each, or None; every edit carries them.
        context: external factors [B, C], or None.

    Source: the multi-ensemblist operations of paper sections 1 and 4.1.
    """

    model: CompVAE
    w: Tensor
    labels: Tensor
    offsets: Tensor | None = None
    lengths: Tensor | None = None
    z: Tensor | None = None
    features: Tensor | None = None
    context: Tensor | None = None

    @property
    def sets(self) -> Sets:
        """The layout."""
        return Sets.of(self.labels, self.offsets, self.lengths)

    @property
    def counts(self) -> Tensor:
        """K of every set, [B] int64."""
        return self.sets.counts

    @property
    def sum(self) -> Tensor:
        """w~ [B, D], the sum of each set's parts."""
        return self.sets.sum(self.w)

    def add(
        self,
        other: Parts | Tensor | Sequence[int] | int,
        *,
        features: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Parts:
        """The union with other parts.

        Args:
            other: Parts of as many sets, or the labels of parts drawn from p(w|l): an int, [M] for every
                set alike, or [B, M].
            features: of the parts that are drawn, [M, F] or [B, M, F], where the model's parts have them.
            seed: of the draw; unused beside Parts.

        Raises:
            ValueError: Parts of another number of sets, or of another model's width.
            IndexError: a label out of range.
        """
        sets = self.sets
        if not isinstance(other, Parts):
            labels = torch.as_tensor(other, device=self.labels.device)
            labels = labels.reshape(1) if labels.dim() == 0 else labels
            if labels.dim() == 1:
                labels = labels.expand(sets.batch, -1)
            if labels.dim() != 2 or labels.shape[0] != sets.batch:
                raise ValueError(
                    f"other: expected labels [M] or [{sets.batch}, M], got {list(labels.shape)}"
                )
            if features is not None and features.dim() == 2:
                features = features.expand(sets.batch, *features.shape)
            other = self.model.prior_parts(labels, features=features, context=self.context, seed=seed)
        theirs = other.sets
        if theirs.batch != sets.batch or other.w.shape[-1] != self.w.shape[-1]:
            raise ValueError(
                f"other: expected {sets.batch} sets of width {self.w.shape[-1]}, "
                f"got {theirs.batch} of width {other.w.shape[-1]}"
            )
        if all(p.offsets is None and p.lengths is None for p in (self, other)):
            return dataclasses.replace(
                self,
                w=torch.cat([self.w, other.w], dim=1),
                labels=torch.cat([self.labels, other.labels], dim=1),
                features=_joined(self.features, other.features, dim=1),
            )
        mine, yours = self.ragged(), other.ragged()
        first, second = mine.sets.owner, yours.sets.owner
        assert first is not None and second is not None and mine.offsets is not None and yours.offsets is not None
        owner = torch.cat([first, second])
        order = torch.argsort(owner, stable=True)
        return dataclasses.replace(
            mine,
            w=torch.cat([mine.w, yours.w])[order],
            labels=torch.cat([mine.labels, yours.labels])[order],
            features=_rows(_joined(mine.features, yours.features, dim=0), order),
            offsets=mine.offsets + yours.offsets,
        )

    def remove(self, index: int) -> Parts:
        """Without the part at ``index`` of every set (negative: from each set's end).

        Raises:
            IndexError: a set that has no such part.
        """
        position = self._positions([index])
        return self._keep(~self._marked(position))

    def replace(
        self, index: int, label: int, *, features: Tensor | None = None, seed: int | Tensor | None = None
    ) -> Parts:
        """With the part at ``index`` of every set drawn anew from p(w|label), in its old place.

        ``features`` are the new part's, [F] or [B, F], where the model's parts have them.

        Raises:
            IndexError: a set that has no such part, or a label out of range.
        """
        position = self._positions([index])
        batch = self.sets.batch
        if features is not None:
            features = features.expand(batch, features.shape[-1]).unsqueeze(1)
        one = self.labels.new_full((batch, 1), label)
        new = self.model.prior_parts(one, features=features, context=self.context, seed=seed)
        marked = self._marked(position)
        w, labels = self.w.clone(), self.labels.clone()
        w[marked] = new.w[:, 0]
        labels[marked] = label
        kept = None if self.features is None else self.features.clone()
        if kept is not None and features is not None:
            kept[marked] = features[:, 0]
        return dataclasses.replace(self, w=w, labels=labels, features=kept)

    def subset(self, indices: Sequence[int]) -> Parts:
        """Only the parts at ``indices`` of every set, each once, in their old order.

        Raises:
            IndexError: a set that has no such part.
        """
        return self._keep(self._marked(self._positions(list(indices))))

    def ragged(self) -> Parts:
        """The same parts as [N, D] with offsets."""
        if self.offsets is not None:
            return self
        sets = self.sets
        present = torch.ones_like(self.labels, dtype=torch.bool) if sets.mask is None else sets.mask
        offsets = torch.cat([sets.counts.new_zeros(1), sets.counts.cumsum(0)])
        return dataclasses.replace(
            self,
            w=self.w[present],
            labels=self.labels[present],
            features=_rows(self.features, present),
            offsets=offsets,
            lengths=None,
        )

    def _positions(self, indices: list[int]) -> Tensor:
        """Indices [B, len(indices)] from each set's start, checked against its size."""
        counts = self.counts.unsqueeze(-1)
        wanted = torch.tensor(indices, dtype=torch.int64, device=counts.device).expand(len(counts), -1)
        resolved = torch.where(wanted < 0, wanted + counts, wanted)
        wrong = ((resolved < 0) | (resolved >= counts)).nonzero()
        if len(wrong):
            row, column = wrong[0].tolist()
            raise IndexError(
                f"index: set {row} has {int(counts[row])} parts, got index {indices[column]}"
            )
        return resolved

    def _marked(self, positions: Tensor) -> Tensor:
        """Which rows of ``labels`` are at the positions [B, M] of their sets: bool like labels."""
        of_set, of_part = self.sets.positions(self.labels.shape[-1])
        of_set = of_set.expand(*self.labels.shape, 1)
        return (of_part == positions[of_set.squeeze(-1)]).any(-1)

    def _keep(self, kept: Tensor) -> Parts:
        sets = self.sets
        counts = sets.sum(kept.to(torch.float64).unsqueeze(-1)).squeeze(-1).long()
        if self.offsets is None and self.lengths is None:
            shape = (sets.batch, int(counts[0]) if sets.batch else 0)
            features = _rows(self.features, kept)
            return dataclasses.replace(
                self,
                w=self.w[kept].view(*shape, self.w.shape[-1]),
                labels=self.labels[kept].view(shape),
                features=None if features is None else features.view(*shape, features.shape[-1]),
            )
        mine = self.ragged()
        kept = kept if self.offsets is not None else kept[sets.mask]
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return dataclasses.replace(
            mine, w=mine.w[kept], labels=mine.labels[kept], features=_rows(mine.features, kept), offsets=offsets
        )


def _rows(features: Tensor | None, index: Tensor) -> Tensor | None:
    return None if features is None else features[index]


def _joined(one: Tensor | None, other: Tensor | None, dim: int) -> Tensor | None:
    return None if one is None or other is None else torch.cat([one, other], dim=dim)
