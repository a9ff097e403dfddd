"""The compositional variational auto-encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import ops, streaming
from ..nn import GaussianTable, Sets
from ..random import Stream, fold, normal
from . import compact, tables
from .config import CompVAEConfig
from .drawing import fold_each, prior_sum, row_normals
from .parts import Parts
from .presets import preset_config

LENGTH = 200


class Losses(NamedTuple):
    """The negative ELBO and its three terms, each [B], in nats.

    w is KL(q(w|x,z) || p(w|l)) in closed form, z the one-sample (closed form where q(w) does not depend on z)
    KL(q(z|x) || p(z|w~)), x is -log p(x|z,w~) and total their sum. objective is what training minimises: the
    same terms, weighted by the model's own schedule. Source: paper eq. 4.
    """

    w: Tensor
    z: Tensor
    x: Tensor
    total: Tensor
    objective: Tensor

    def bits(self) -> Losses:
        """The same in bits."""
        return Losses(*(term / math.log(2) for term in self))


class Posterior(NamedTuple):
    """q(z|x), a draw of z, q({w_i}|x,z,{l_i}) and p(w_i|l_i) of a batch."""

    z: Tensor
    z_q: tuple[Tensor, Tensor]
    w_q: tuple[Tensor, Tensor, Tensor]
    w_p: tuple[Tensor, Tensor]


class CompVAE(nn.Module):
    """A whole made of a multiset of parts, and the posterior of its latents.

        p(x, z, {w_i} | {l_i}) = p(x | z, w~) p(z | w~) prod_i p(w_i | l_i),  w~ = sum_i w_i
        q(z, {w_i} | x, {l_i}) = q(z | x) q({w_i} | x, z, {l_i})

    Everywhere below x is [B, 200] and labels are int64: [B, K] dense, [B, K] with lengths [B] padded, or [N] with
    offsets [B+1] ragged; sets of one batch may differ in size. ``seed`` is an int, a 0-d int64 tensor or
    None, which draws one with torch's default generator. Build one by ``from_preset`` or ``from_config``.

    Source: paper eqs. 1 to 5.

    >>> model = CompVAE.from_preset("sines-small")
    >>> model.generate([1, 1, 5, 7], n=3, seed=0).shape
    torch.Size([3, 200])
    """

    def __init__(self, config: CompVAEConfig) -> None:
        super().__init__()
        self.config = c = config
        self.features: nn.Module
        self.posterior_z: nn.Module
        self.posterior_w: nn.Module
        self.prior_z: nn.Module
        self.observation: nn.Module
        if c.network == "tables":
            self.prior_w = GaussianTable(c.num_labels, c.w_dim, c.sigma_min)
            self.features = tables.Features()
            self.posterior_z = tables.PosteriorZ(c.z_dim, c.sigma_min)
            self.posterior_w = tables.PosteriorW(
                c.w_dim, c.z_dim, c.num_labels, c.sigma_min, c.released
            )
            self.prior_z = tables.PriorZ(c.w_dim, c.z_dim, c.sigma_min)
            self.observation = tables.Observation(c.w_dim, c.z_dim, c.sigma_min)
        else:
            scales = compact.private_scales(c.num_labels, c.w_dim, c.closed_scale)
            self.prior_w = GaussianTable(c.num_labels, c.w_dim, c.sigma_min, scales)
            self.features = compact.Features(c.num_labels, c.hidden)
            self.posterior_z = compact.PosteriorZ(c.hidden, c.z_dim, c.sigma_min)
            self.posterior_w = compact.PosteriorW(c.w_dim, c.hidden)
            self.prior_z = compact.PriorZ(c.num_labels, c.w_dim, c.z_dim, c.hidden, c.sigma_min)
            self.observation = compact.Observation(
                c.num_labels, c.w_dim, c.z_dim, c.hidden, c.observation_floor, c.radial_flow
            )
        self._counts_labels = c.network == "compact"

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> CompVAE:
        """A new model by a preset's name; ``overrides`` replace fields of its configuration.

        Raises:
            ValueError: an unknown preset (the message lists them) or an unknown field.
        """
        return cls.from_config({**preset_config(name).to_dict(), **overrides})

    @classmethod
    def from_config(cls, config: dict[str, Any] | CompVAEConfig) -> CompVAE:
        """A new model by its configuration, as ``model.config.to_dict()`` gives it."""
        if not isinstance(config, CompVAEConfig):
            config = CompVAEConfig.from_dict(config)
        return cls(config)

    def loss(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        seed: int | Tensor | None = None,
        progress: float = 1.0,
        sets: Sets | None = None,
    ) -> Losses:
        """The negative ELBO of wholes given their labels, one posterior sample.

        Args:
            x: [B, 200]; labels, offsets, lengths, seed: see the class.
            progress: share of the training done, in [0, 1]; moves ``objective`` alone.
            sets: the layout ready made, in place of offsets and lengths; ``Sets`` of a share of a batch, or
                ``distributed.ShardedSets``.

        Returns:
            Losses, each [B].
        """
        labels, sets = self._labels(labels, offsets, lengths, sets=sets)
        seed = _seed(seed, x)
        q = self._posterior(x, labels, sets, seed)
        options = self._options(sets, seed)
        if self.config.path_gradients:
            w_sum, ratio = sets.operation("posterior_sum_and_log_ratio")(*q.w_q, *q.w_p, **options, path=True)
            with torch.no_grad():
                loss_w = ops.multiset_kl(*q.w_q, *q.w_p, **sets.where, coupling=options["coupling"])
        else:
            w_sum, loss_w = sets.operation("posterior_sum_and_kl")(*q.w_q, *q.w_p, **options)
        w_sum = self._with_counts(w_sum, labels, sets)
        z_p = self.prior_z(w_sum)
        if self.posterior_w.sees_z:
            loss_z = ops.gaussian_nll(q.z, *z_p) - ops.gaussian_nll(q.z, *q.z_q)
        else:
            loss_z = ops.diag_normal_kl(*q.z_q, *z_p)
        loss_x = ops.gaussian_nll(x, *self.observation(w_sum, q.z))
        minimised = loss_w, loss_z
        if self.config.path_gradients:
            fixed = (term.detach() for term in q.z_q)
            minimised = -ratio, ops.gaussian_nll(q.z, *z_p) - ops.gaussian_nll(q.z, *fixed)
        c = self.config
        objective = (
            _weight(c.w_weight, c.w_until, progress) * minimised[0]
            + _weight(c.z_weight, c.z_until, progress) * minimised[1]
            + loss_x
        )
        if c.generation_weight and self.training and progress >= c.generation_from:
            # the first of the whole batch, of which these sets may be a share
            every = sets.batch if sets.all_sets is None else sets.all_sets
            here = min(sets.batch, c.generation_sets)
            rows = here if sets.index is None else int((sets.index < c.generation_sets).sum())
            score = self._energy_score(x, labels, sets, seed, rows)
            share = c.generation_weight * every / max(min(c.generation_sets, every), 1)
            objective = objective + F.pad(share * score, (0, sets.batch - rows))
        return Losses(loss_w, loss_z, loss_x, loss_w + loss_z + loss_x, objective)

    def energy_score(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Tensor:
        """How far wholes generated from the labels are from x, [B], in units of x / K; differentiable.

            (|x' - x| + |x'' - x| - |x' - x''|) / (2 K),  x', x'' ~ p(x | {l_i})

        A proper scoring rule: its mean over true x is lowest for generated wholes of the true distribution, and exceeds
        that by half the energy distance. Source: Gneiting and Raftery, "Strictly proper scoring rules", 2007.
        """
        labels, sets = self._labels(labels, offsets, lengths)
        return self._energy_score(x, labels, sets, _seed(seed, x), sets.batch)

    def log_weight(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Tensor:
        """log p(x, z, {w_i} | {l_i}) - log q(z, {w_i} | x, {l_i}) of one posterior sample, [B], nats.

        Its mean is the ELBO; the densities of the parts come from the noise they were drawn with.
        """
        labels, sets = self._labels(labels, offsets, lengths)
        seed = _seed(seed, x)
        q = self._posterior(x, labels, sets, seed)
        w_sum, ratio_w = ops.posterior_sum_and_log_ratio(*q.w_q, *q.w_p, **self._options(sets, seed))
        w_sum = self._with_counts(w_sum, labels, sets)
        ratio_z = ops.gaussian_nll(q.z, *q.z_q) - ops.gaussian_nll(q.z, *self.prior_z(w_sum))
        return ratio_w + ratio_z - ops.gaussian_nll(x, *self.observation(w_sum, q.z))

    def encode(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Parts:
        """The latents of a whole's parts, and z, drawn from the posterior."""
        internal, sets = self._labels(labels, offsets, lengths, always=True)
        seed = _seed(seed, x)
        q = self._posterior(x, internal, sets, seed)
        w = ops.correlated_normal_rsample(*q.w_q, **self._options(sets, seed))
        assert isinstance(w, Tensor)
        return Parts(self, self._with_labels(w, internal), labels, offsets, lengths, q.z)

    def decode(
        self, parts: Parts | None = None, *, w_sum: Tensor | None = None, z: Tensor | None = None
    ) -> torch.distributions.Normal:
        """p(x | z, w~), with mean and scale [B, 200].

        Args:
            parts: as encode or prior_parts gives them, or an edit of those.
            w_sum: [B, D] instead of parts (as ``parts.sum`` has it).
            z: [B, Z]; default ``parts.z``, and the mean of p(z | w~) where that is None.

        Raises:
            ValueError: both or neither of parts and w_sum.
        """
        if (parts is None) == (w_sum is None):
            raise ValueError("parts, w_sum: expected exactly one of them")
        if parts is not None:
            w_sum, z = parts.sum, parts.z if z is None else z
        if z is None:
            z = self.prior_z(w_sum)[0]
        mu, logvar = self.observation(w_sum, z)
        return torch.distributions.Normal(mu, (0.5 * logvar).exp())

    def prior_parts(
        self,
        labels: Tensor | Sequence[int],
        *,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Parts:
        """Parts drawn from p(w | l), with z left to its prior. A list or [K] is one multiset."""
        labels = torch.as_tensor(labels, device=self.prior_w.mu.device)
        if labels.dim() == 1 and offsets is None:
            labels = labels.unsqueeze(0)
        internal, sets = self._labels(labels, offsets, lengths, always=True)
        mu, logvar = self._prior_rows(internal)
        of_set, of_part = sets.positions(labels.shape[-1])
        coordinates = torch.arange(self.config.w_dim, device=mu.device)
        seed = fold(_seed(seed, mu), Stream.PRIOR_W)
        w = mu + (0.5 * logvar).exp() * normal(seed, of_set, of_part, coordinates)
        return Parts(self, self._with_labels(w, internal), labels, offsets, lengths)

    def generate(
        self,
        labels: Tensor | Sequence[int] | Any | None = None,
        *,
        counts: Tensor | Sequence[int] | None = None,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        n: int = 1,
        seed: int | Tensor | None = None,
        noise: bool = True,
        set_index: Tensor | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Wholes of the model, drawn from p(x | {l_i}).

        Args:
            labels: a list or [K], one multiset drawn ``n`` times; or a batch of them (see the class), each
                drawn once; or one multiset of any length, read as it is needed: a file's path, an array or
                memory-mapped array, an iterator (``compvae_fast.streaming``; no gradient is recorded).
            counts: instead of labels, how many parts each label has: [C] (drawn ``n`` times) or [B, C];
                at a cost that does not depend on K.
            n: draws of a single multiset.
            seed: see the class; or int64 [n] or [B], one for each whole.
            noise: whether observation noise is added to the mean of p(x | z, w~).
            set_index: int64 [n] or [B], the index of each whole in the noise, by which one of many is drawn alone;
                default 0, 1, ...
            progress: called with the number of labels read since it was last called, where they are read piece
                by piece.

        Returns:
            [n, 200], or [B, 200] for a batch.

        Raises:
            ValueError: both or neither of labels and counts, or n > 1 beside a batch.
            IndexError: a label out of range.

        >>> CompVAE.from_preset("sines-small").generate(counts=[1000000] + [0] * 9, seed=1).shape
        torch.Size([1, 200])
        """
        if (labels is None) == (counts is None):
            raise ValueError("labels, counts: expected exactly one of them")
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"n: expected a positive integer, got {n!r}")
        mu, logvar = self.prior_w()
        seed = _seed(seed, mu)
        drawn = fold_each(seed, Stream.PRIOR_W)
        if streaming.is_stream(labels) and not (isinstance(labels, np.ndarray) and labels.ndim == 2):
            rows = torch.arange(n) if set_index is None else set_index
            streamed = streaming.prior_sum(
                labels, mu, logvar, seed=drawn, set_index=rows, first_label=self.config.first_label, progress=progress
            )
            assert streamed.counts is not None
            w_sum = self._behind(streamed.counts.expand(n, -1), streamed.w_sum)
            return self._whole(w_sum, seed, noise, rows)
        given = torch.as_tensor(labels if counts is None else counts, device=mu.device)
        if given.dim() == 1 and offsets is None:
            given = given.expand(n, -1)
        elif n != 1:
            raise ValueError(f"n: expected 1 beside a batch of multisets, got {n}")
        if counts is None:
            given, sets = self._labels(given, offsets, lengths, always=True)
            w_sum = prior_sum(given, mu, logvar, **sets.where, seed=drawn, set_index=set_index)
            w_sum = self._with_counts(w_sum, given, sets)
        else:
            self._check_counts(given)
            w_sum = prior_sum(None, mu, logvar, counts=given, seed=drawn, set_index=set_index)
            w_sum = self._behind(given, w_sum)
        return self._whole(w_sum, seed, noise, set_index)

    def _whole(
        self, w_sum: Tensor, seed: int | Tensor, noise: bool = True, rows: Tensor | None = None
    ) -> Tensor:
        """A draw of z and x, or of z and the mean of x, given w~; ``rows`` are the sets' indices in the noise."""
        z_mu, z_logvar = self.prior_z(w_sum)
        z = self._draw(z_mu, z_logvar, fold_each(seed, Stream.PRIOR_Z), rows)
        mu, logvar = self.observation(w_sum, z)
        return self._draw(mu, logvar, fold_each(seed, Stream.OBSERVATION), rows) if noise else mu

    def _energy_score(
        self, x: Tensor, labels: Tensor, sets: Sets, seed: int | Tensor, rows: int
    ) -> Tensor:
        """``energy_score`` of the first ``rows`` sets; labels count from 0."""
        mu, logvar = self.prior_w()
        drawn = []
        for draw in range(2):
            own = fold(fold(seed, Stream.PRIOR_W), draw)
            w_sum = sets.operation("prior_sum")(
                labels, mu, logvar, **sets.where, seed=own, set_index=sets.index
            )
            index = None if sets.index is None else sets.index[:rows]
            drawn.append(self._whole(self._with_counts(w_sum, labels, sets)[:rows], own, rows=index))
        x = x[:rows]
        spread = (drawn[0] - x).norm(dim=1) + (drawn[1] - x).norm(dim=1) - (drawn[0] - drawn[1]).norm(dim=1)
        return spread / (2 * sets.counts[:rows].clamp(min=1))

    def _posterior(self, x: Tensor, labels: Tensor, sets: Sets, seed: int | Tensor) -> Posterior:
        if x.shape != (sets.batch, LENGTH):
            raise ValueError(f"x: expected [{sets.batch}, {LENGTH}], got {list(x.shape)}")
        features = self.features(x, sets, labels)
        z_mu, z_logvar = z_q = self.posterior_z(features)
        z = self._draw(z_mu, z_logvar, fold(seed, Stream.POSTERIOR_Z), sets.index)
        w_p = self._prior_rows(labels)
        own = {"flow": self.observation.flow} if self._counts_labels else {}
        w_q = self.posterior_w(features, z, labels, sets, w_p, seed, **own)
        return Posterior(z, z_q, w_q, w_p)

    def _options(self, sets: Sets, seed: int | Tensor) -> dict[str, Any]:
        """Keyword arguments of every operation that draws the parts from q."""
        drawn = fold(seed, Stream.POSTERIOR_W)
        return {**sets.where, "set_index": sets.index, "coupling": self.config.coupling, "seed": drawn}

    def _prior_rows(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.prior_w()
        return F.embedding(labels, mu), F.embedding(labels, logvar)

    @staticmethod
    def _draw(mu: Tensor, logvar: Tensor, seed: int | Tensor, rows: Tensor | None = None) -> Tensor:
        """One draw of each row of a diagonal Gaussian, rows counted as sets."""
        if rows is None:
            rows = torch.arange(len(mu), device=mu.device)
        return mu + (0.5 * logvar).exp() * row_normals(seed, rows, mu.shape[1])

    def _with_counts(self, w_sum: Tensor, labels: Tensor, sets: Sets) -> Tensor:
        """w~ behind the sum of ``_with_labels``' coordinates, where the network has them."""
        if not self._counts_labels:
            return w_sum
        return self._behind(compact.label_counts(labels, sets, self.config.num_labels), w_sum)

    def _with_labels(self, w: Tensor, labels: Tensor) -> Tensor:
        """Parts behind C coordinates that are 1 for the part's own label and 0 elsewhere: their sum counts labels."""
        if not self._counts_labels:
            return w
        return self._behind(F.one_hot(labels, self.config.num_labels), w)

    def _behind(self, of_labels: Tensor, w: Tensor) -> Tensor:
        """w [..., D] behind the labels' coordinates [..., C], where the network has them."""
        return torch.cat([of_labels.to(w.dtype), w], dim=-1) if self._counts_labels else w

    def _labels(
        self,
        labels: Tensor,
        offsets: Tensor | None,
        lengths: Tensor | None,
        always: bool = False,
        sets: Sets | None = None,
    ) -> tuple[Tensor, Sets]:
        """Labels counted from 0, padding included, and the layout; values are read on CUDA if ``always``."""
        if labels.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"labels: expected int32 or int64, got {labels.dtype}")
        sets = sets or Sets.of(labels, offsets, lengths)
        internal = labels.long() - self.config.first_label
        if sets.mask is not None:
            internal = torch.where(sets.mask, internal, 0)
        if always or labels.device.type == "cpu":
            wrong = (internal < 0) | (internal >= self.config.num_labels)
            if wrong.any():
                first = self.config.first_label
                raise IndexError(
                    f"labels: expected values in {first}..{first + self.config.num_labels - 1}, "
                    f"got {int(labels[wrong][0])}"
                )
        return internal, sets

    def _check_counts(self, counts: Tensor) -> None:
        if counts.is_floating_point() or counts.dtype == torch.bool:
            raise TypeError(f"counts: expected integers, got {counts.dtype}")
        if counts.dim() != 2 or counts.shape[1] != self.config.num_labels:
            raise ValueError(
                f"counts: expected [{self.config.num_labels}] or [B, {self.config.num_labels}], "
                f"got {list(counts.shape[1:] if counts.dim() == 2 else counts.shape)}"
            )
        if counts.numel() and (counts.min() < 0 or counts.max() > 2**53):
            raise ValueError(
                f"counts: expected values in 0..2^53, got {int(counts.min())}..{int(counts.max())}"
            )


def _seed(seed: int | Tensor | None, like: Tensor) -> int | Tensor:
    if seed is not None:
        return seed
    return torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=like.device)


def _weight(start: float, until: float, progress: float) -> float:
    """Linear from ``start`` to 1 over the first ``until`` of the training."""
    return 1.0 if progress >= until else start + (1.0 - start) * progress / until
