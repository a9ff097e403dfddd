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
from ..data import problem
from ..nn import GaussianTable, Observation, Saturation, Sets
from ..nn.drawing import fold_each, gaussian_rows, prior_sum
from ..random import Stream, fold, normal
from . import networks
from .config import CompVAEConfig
from .given import Given, check_context, check_counts
from .parts import Parts
from .presets import preset_config


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

        p(x, z, {w_i} | c, {l_i}) = p(x | z, w~) p(z | c, w~) prod_i p(w_i | l_i),  w~ = sum_i w_i
        q(z, {w_i} | x, c, {l_i}) = q(z | c, x) q({w_i} | x, c, z, {l_i})

    Everywhere below x is [B, *shape], the shape of a whole of the model's problem (200 values in "sines"), and labels
    are int64: [B, K] dense, [B, K] with lengths [B] padded, or [N] with offsets [B+1] ragged; sets of one batch may
    differ in size. Where the problem's parts have continuous features (the location of a dot), ``features`` are
    [B, K, F] or [N, F] beside the labels; where its wholes have external factors c (the temperature of a week),
    ``context`` is [B, C]; elsewhere both are None. ``seed`` is an int, a 0-d int64 tensor or None, which draws one with
    torch's default generator. Build one by ``from_preset`` or ``from_config``.

    Source: paper eqs. 1 to 5, thesis eqs. 9.1 to 9.3.

    >>> model = CompVAE.from_preset("sines-small")
    >>> model.generate([1, 1, 5, 7], n=3, seed=0).shape
    torch.Size([3, 200])
    """

    def __init__(self, config: CompVAEConfig) -> None:
        super().__init__()
        self.config = c = config
        self.problem = problem(c.problem)
        built = networks.build(c)
        self.prior_w = built.prior_w
        self.features = built.features
        self.posterior_z = built.posterior_z
        self.posterior_w = built.posterior_w
        self.prior_z = built.prior_z
        self.observation = built.observation
        self.aggregation = Saturation() if c.aggregation == "saturating" else None
        self._known = built.known

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
        features: Tensor | None = None,
        context: Tensor | None = None,
        seed: int | Tensor | None = None,
        progress: float | Tensor = 1.0,
        generating: bool | None = None,
        sets: Sets | None = None,
    ) -> Losses:
        """The negative ELBO of wholes given their labels, one posterior sample.

        Args:
            x: [B, *shape]; labels, offsets, lengths, features, context, seed: see the class.
            progress: share of the training done, in [0, 1], a number or a 0-d tensor; moves ``objective`` alone.
            generating: whether the objective has the score of generated wholes; default by progress, beside a tensor
                False.
            sets: the layout ready made, in place of offsets and lengths; ``Sets`` of a share of a batch, or
                ``distributed.ShardedSets``.

        Returns:
            Losses, each [B].
        """
        given = self._given(labels, offsets, lengths, features, context, sets=sets)
        sets, seed = given.sets, _seed(seed, x)
        q = self._posterior(x, given, seed)
        options = self._options(sets, seed)
        if self.config.path_gradients:
            w_sum, ratio = sets.operation("posterior_sum_and_log_ratio")(*q.w_q, *q.w_p, **options, path=True)
            with torch.no_grad():
                loss_w = ops.multiset_kl(*q.w_q, *q.w_p, **sets.where, coupling=options["coupling"])
        else:
            w_sum, loss_w = sets.operation("posterior_sum_and_kl")(*q.w_q, *q.w_p, **options)
        heard = self._heard(self._with_known(w_sum, given))
        z_p = self.prior_z(heard, given.context)
        if self.posterior_w.sees_z:
            loss_z = ops.gaussian_nll(q.z, *z_p) - ops.gaussian_nll(q.z, *q.z_q)
        else:
            loss_z = ops.diag_normal_kl(*q.z_q, *z_p)
        loss_x = self.observation(heard, q.z, given.context).nll(x)
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
        if generating is None:
            generating = not isinstance(progress, Tensor) and progress >= c.generation_from
        if c.generation_weight and self.training and generating:
            # the first of the whole batch, of which these sets may be a share
            every = sets.batch if sets.all_sets is None else sets.all_sets
            here = min(sets.batch, c.generation_sets)
            rows = here if sets.index is None else int((sets.index < c.generation_sets).sum())
            score = self._energy_score(x, given, seed, rows)
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
        features: Tensor | None = None,
        context: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Tensor:
        """How far wholes generated from the labels are from x, [B]; differentiable.

            (|x' - x| + |x'' - x| - |x' - x''|) / (2 K),  x', x'' ~ p(x | {l_i})

        that is in units of x / K; without the K where the problem's wholes do not grow with it.

        A proper scoring rule: its mean over true x is lowest for generated wholes of the true distribution, and exceeds
        that by half the energy distance. Source: Gneiting and Raftery, "Strictly proper scoring rules", 2007.
        """
        given = self._given(labels, offsets, lengths, features, context)
        return self._energy_score(x, given, _seed(seed, x), given.sets.batch)

    def log_weight(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
        context: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Tensor:
        """log p(x, z, {w_i} | {l_i}) - log q(z, {w_i} | x, {l_i}) of one posterior sample, [B], nats.

        Its mean is the ELBO; the densities of the parts come from the noise they were drawn with.
        """
        given = self._given(labels, offsets, lengths, features, context)
        seed = _seed(seed, x)
        q = self._posterior(x, given, seed)
        w_sum, ratio_w = ops.posterior_sum_and_log_ratio(*q.w_q, *q.w_p, **self._options(given.sets, seed))
        heard = self._heard(self._with_known(w_sum, given))
        ratio_z = ops.gaussian_nll(q.z, *q.z_q) - ops.gaussian_nll(q.z, *self.prior_z(heard, context))
        return ratio_w + ratio_z - self.observation(heard, q.z, context).nll(x)

    def encode(
        self,
        x: Tensor,
        labels: Tensor,
        *,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
        context: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Parts:
        """The latents of a whole's parts, and z, drawn from the posterior."""
        given = self._given(labels, offsets, lengths, features, context, always=True)
        seed = _seed(seed, x)
        q = self._posterior(x, given, seed)
        w = ops.correlated_normal_rsample(*q.w_q, **self._options(given.sets, seed))
        assert isinstance(w, Tensor)
        return Parts(self, self._behind_known(w, given), labels, offsets, lengths, q.z, features, context)

    def decode(
        self,
        parts: Parts | None = None,
        *,
        w_sum: Tensor | None = None,
        z: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Any:
        """p(x | z, w~): torch.distributions.Normal with mean and scale [B, *shape], or another ``nn.Observation``.

        Args:
            parts: as encode or prior_parts gives them, or an edit of those.
            w_sum: [B, D] instead of parts (as ``parts.sum`` has it).
            z: [B, Z]; default ``parts.z``, and the mean of p(z | c, w~) where that is None.
            context: [B, C], external factors; default ``parts.context``.

        Raises:
            ValueError: both or neither of parts and w_sum.
        """
        if (parts is None) == (w_sum is None):
            raise ValueError("parts, w_sum: expected exactly one of them")
        if parts is not None:
            w_sum, z = parts.sum, parts.z if z is None else z
            context = parts.context if context is None else context
        assert w_sum is not None
        heard = self._heard(w_sum)
        if z is None:
            z = self.prior_z(heard, context)[0]
        return self.observation(heard, z, context).distribution()

    def prior_parts(
        self,
        labels: Tensor | Sequence[int],
        *,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
        context: Tensor | None = None,
        seed: int | Tensor | None = None,
    ) -> Parts:
        """Parts drawn from p(w | l), with z left to its prior. A list or [K] is one multiset, with features [K, F]."""
        labels = _as_tensor("labels", labels, self._device)
        if labels.dim() == 1 and offsets is None:
            labels = labels.unsqueeze(0)
            features, context = _one(features, 2), _one(context, 1)
        given = self._given(labels, offsets, lengths, features, context, always=True)
        mu, logvar = self.prior_w(given.labels, given.features)
        of_set, of_part = given.sets.positions(labels.shape[-1])
        coordinates = torch.arange(mu.shape[-1], device=mu.device)
        seed = fold(_seed(seed, mu), Stream.PRIOR_W)
        w = mu + (0.5 * logvar).exp() * normal(seed, of_set, of_part, coordinates)
        return Parts(self, self._behind_known(w, given), labels, offsets, lengths, None, features, context)

    def generate(
        self,
        labels: Tensor | Sequence[int] | Any | None = None,
        *,
        counts: Tensor | Sequence[int] | None = None,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
        context: Tensor | None = None,
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
                memory-mapped array, an iterator (``compvae_fast.streaming``; no gradient is recorded). Where parts
                have features, the rows of such a stream are [1 + F] floats, the label first.
            counts: instead of labels, how many parts each label has: [C] (drawn ``n`` times) or [B, C];
                at a cost that does not depend on K. Beside labels [K] (and features [K, F]), how many times each
                of these parts is there: [K], at a cost that does not depend on how many. Parts with features need the
                latter.
            features: of the parts, like labels: [K, F], [B, K, F] or [N, F].
            context: external factors, [C] (of every draw) or [B, C].
            n: draws of a single multiset.
            seed: see the class; or int64 [n] or [B], one for each whole.
            noise: whether observation noise is added to the mean of p(x | z, w~).
            set_index: int64 [n] or [B], the index of each whole in the noise, by which one of many is drawn alone;
                default 0, 1, ...
            progress: called with the number of labels read since it was last called, where they are read piece
                by piece.

        Returns:
            [n, *shape], or [B, *shape] for a batch.

        Raises:
            ValueError: neither labels nor counts, counts beside a batch of labels, n > 1 beside a batch, or features or
                context that are missing or that the problem has not.
            IndexError: a label out of range.

        >>> CompVAE.from_preset("sines-small").generate(counts=[1000000] + [0] * 9, seed=1).shape
        torch.Size([1, 200])
        """
        if labels is None and counts is None:
            raise ValueError("labels, counts: expected one of them at least")
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"n: expected a positive integer, got {n!r}")
        seed = _seed(seed, self._device)
        drawn = fold_each(seed, Stream.PRIOR_W)
        if streaming.is_stream(labels) and not (isinstance(labels, np.ndarray) and labels.ndim == 2 and _whole(labels)):
            rows = torch.arange(n) if set_index is None else set_index
            w_sum = self._sum_of_stream(labels, features, seed=drawn, set_index=rows, progress=progress)
            context = _one(context, 1, n)
            check_context(self.problem, context, n)
            return self._generated(w_sum, context, seed, noise, rows)
        if labels is not None and counts is not None:
            rows = _as_tensor("labels", labels, self._device)
            context = _one(context, 1, n)
            w_sum = self._sum_of_repeated(rows, counts, features, context, n, seed=drawn, set_index=set_index)
            return self._generated(w_sum, context, seed, noise, set_index)
        name, numbers = ("labels", labels) if counts is None else ("counts", counts)
        given = _as_tensor(name, numbers, self._device)
        if given.dim() == 1 and offsets is None:
            given = given.expand(n, -1)
            features, context = _one(features, 2, n), _one(context, 1, n)
        elif n != 1:
            raise ValueError(f"n: expected 1 beside a batch of multisets, got {n}")
        if counts is None:
            asked = self._given(given, offsets, lengths, features, context, always=True)
            w_sum = prior_sum(*self._prior_tables(asked), **asked.sets.where, seed=drawn, set_index=set_index)
            w_sum = self._with_known(w_sum, asked)
        else:
            w_sum = self._sum_of_counts(given, features, context, drawn, set_index)
        return self._generated(w_sum, context, seed, noise, set_index)

    def _sum_of_counts(
        self,
        counts: Tensor,
        features: Tensor | None,
        context: Tensor | None,
        seed: int | Tensor,
        set_index: Tensor | None,
    ) -> Tensor:
        if self.problem.features:
            raise ValueError(f"counts: expected labels beside the features that parts of {self.problem.name!r} have")
        self.problem.check(features, context)
        check_context(self.problem, context, len(counts))
        check_counts(counts, self.config.num_labels)
        w_sum = prior_sum(None, *self._table(), counts=counts, seed=seed, set_index=set_index)
        return self._behind(self._known_of_counts(counts), w_sum)

    def _sum_of_repeated(
        self, labels: Tensor, counts: Any, features: Tensor | None, context: Tensor | None, n: int, **options: Any
    ) -> Tensor:
        """w~ [n, E + D] of the parts of one multiset, each of them as often as its count says."""
        times = _as_tensor("counts", counts, self._device)
        if labels.dim() != 1 or times.dim() != 1:
            got = f"{list(times.shape)} beside {list(labels.shape)}"
            raise ValueError(f"counts: expected [K] beside labels [K] of one multiset, got {got}")
        check_context(self.problem, context, n)
        once = None if context is None else context[:1]
        asked = self._given(labels[None], features=_one(features, 2), context=once, always=True)
        check_counts(times[None], len(labels))
        own = None if asked.features is None else asked.features[0]
        tables = self.prior_w(asked.labels[0], own)
        w_sum = prior_sum(None, *tables, counts=times.expand(n, -1), **options)
        if self._known is None:
            return w_sum
        known = times.double() @ self._known(asked.labels[0], own).double()
        return self._behind(known.expand(n, -1), w_sum)

    def _sum_of_stream(self, parts: Any, features: Tensor | None, **options: Any) -> Tensor:
        """w~ [n, E + D] of one multiset that is read as it is needed."""
        rows = len(options["set_index"])
        if features is not None:
            raise ValueError("features: expected None beside a stream, whose rows are the label and the features")
        if not self.problem.features:
            first = self.config.first_label
            streamed = streaming.prior_sum(parts, *self._table(), first_label=first, **options)
            assert streamed.counts is not None
            return self._behind(self._known_of_counts(streamed.counts.expand(rows, -1)), streamed.w_sum)
        w_sum = streaming.prior_sum_of_network(parts, self._prior_of_rows, **options).w_sum
        # the noise of w_i counts its coordinates from 0, so that the known ones came last
        return w_sum.roll(0 if self._known is None else self._known.width, dims=-1)

    def _prior_of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar [n, D + E] of parts given as rows [n, 1 + F], known coordinates as having no deviation."""
        width = 1 + self.problem.features
        if rows.shape[1] != width or not (rows[:, 0] == rows[:, 0].round()).all():
            raise ValueError(f"labels: expected rows of {width} numbers, a whole one first; got {list(rows.shape[1:])}")
        offsets = torch.tensor([0, len(rows)])
        given = self._given(rows[:, 0].long(), offsets, features=rows[:, 1:], always=True)
        mu, logvar = self.prior_w(given.labels, given.features)
        if self._known is None:
            return mu, logvar
        known = self._known(given.labels, given.features).to(mu.dtype)
        return torch.cat([mu, known], dim=-1), torch.cat([logvar, torch.full_like(known, -math.inf)], dim=-1)

    def _generated(
        self,
        w_sum: Tensor,
        context: Tensor | None,
        seed: int | Tensor,
        noise: bool = True,
        rows: Tensor | None = None,
    ) -> Tensor:
        """A draw of z and x, or of z and the mean of x, given w~; ``rows`` are the sets' indices in the noise."""
        heard = self._heard(w_sum)
        mu, logvar = self.prior_z(heard, context)
        z = gaussian_rows(mu, logvar, fold_each(seed, Stream.PRIOR_Z), rows)
        observed: Observation = self.observation(heard, z, context)
        return observed.draw(fold_each(seed, Stream.OBSERVATION), rows) if noise else observed.mean

    def _energy_score(self, x: Tensor, given: Given, seed: int | Tensor, rows: int) -> Tensor:
        """``energy_score`` of the first ``rows`` sets."""
        sets = given.sets
        tables = self._prior_tables(given)
        index = None if sets.index is None else sets.index[:rows]
        context = None if given.context is None else given.context[:rows]
        drawn = []
        for draw in range(2):
            own = fold(fold(seed, Stream.PRIOR_W), draw)
            w_sum = sets.operation("prior_sum")(*tables, **sets.where, seed=own, set_index=sets.index)
            whole = self._generated(self._with_known(w_sum, given)[:rows], context, own, rows=index)
            drawn.append(whole.flatten(1))
        x = x[:rows].flatten(1)
        spread = (drawn[0] - x).norm(dim=1) + (drawn[1] - x).norm(dim=1) - (drawn[0] - drawn[1]).norm(dim=1)
        return spread / (2 * sets.counts[:rows].clamp(min=1) if self.problem.grows_with_parts else 2)

    def _posterior(self, x: Tensor, given: Given, seed: int | Tensor) -> Posterior:
        expected = (given.sets.batch, *self.problem.shape)
        if x.shape != expected:
            raise ValueError(f"x: expected {list(expected)}, got {list(x.shape)}")
        read = self.features(x, given)
        z_mu, z_logvar = z_q = self.posterior_z(read)
        z = gaussian_rows(z_mu, z_logvar, fold(seed, Stream.POSTERIOR_Z), given.sets.index)
        w_p = self.prior_w(given.labels, given.features)
        w_q = self.posterior_w(read, z, given, w_p, seed)
        return Posterior(z, z_q, w_q, w_p)

    def _options(self, sets: Sets, seed: int | Tensor) -> dict[str, Any]:
        """Keyword arguments of every operation that draws the parts from q."""
        drawn = fold(seed, Stream.POSTERIOR_W)
        return {**sets.where, "set_index": sets.index, "coupling": self.config.coupling, "seed": drawn}

    def _table(self) -> tuple[Tensor, Tensor]:
        """mu and logvar of every label, [C, D], where parts have no features."""
        if isinstance(self.prior_w, GaussianTable):
            return self.prior_w.table()
        return self.prior_w(torch.arange(self.config.num_labels, device=self._device), None)

    def _prior_tables(self, given: Given) -> tuple[Tensor, Tensor, Tensor]:
        """labels, mu and logvar as ``ops.prior_sum`` takes them: a row for each label, or for each part."""
        if not self.problem.features:
            return given.labels, *self._table()
        mu, logvar = self.prior_w(given.labels, given.features)
        rows = torch.arange(given.labels.numel(), device=mu.device).view_as(given.labels)
        return rows, mu.flatten(0, -2), logvar.flatten(0, -2)

    def _heard(self, w_sum: Tensor) -> Tensor:
        """What the networks read of w~: saturated, behind the known coordinates as they are."""
        if self.aggregation is None:
            return w_sum
        width = 0 if self._known is None else self._known.width
        return torch.cat([w_sum[:, :width], self.aggregation(w_sum[:, width:])], dim=-1)

    def _with_known(self, w_sum: Tensor, given: Given) -> Tensor:
        """w~ behind the sum of ``_behind_known``'s coordinates, where the networks have them."""
        if self._known is None:
            return w_sum
        return self._behind(given.sets.sum(self._known(given.labels, given.features).float()), w_sum)

    def _behind_known(self, w: Tensor, given: Given) -> Tensor:
        """Parts behind the coordinates that their labels tell, where the networks have them."""
        return w if self._known is None else self._behind(self._known(given.labels, given.features), w)

    def _known_of_counts(self, counts: Tensor) -> Tensor | None:
        """The sum of the known coordinates of parts of these counts [B, C]."""
        if self._known is None:
            return None
        labels = torch.arange(self.config.num_labels, device=counts.device)
        return counts.double() @ self._known(labels, None).double()

    @staticmethod
    def _behind(known: Tensor | None, w: Tensor) -> Tensor:
        return w if known is None else torch.cat([known.to(w.dtype), w], dim=-1)

    def _given(self, labels: Tensor, offsets=None, lengths=None, features=None, context=None, **options: Any) -> Given:
        c = self.config
        return Given.of(
            self.problem, c.first_label, c.num_labels, labels, offsets=offsets, lengths=lengths, features=features,
            context=context, **options,
        )

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


def _seed(seed: int | Tensor | None, like: Tensor | torch.device) -> int | Tensor:
    if seed is not None:
        return seed
    device = like.device if isinstance(like, Tensor) else like
    return torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=device)


def _as_tensor(name: str, numbers: Any, device: torch.device) -> Tensor:
    """Labels or counts as users write them."""
    try:
        tensor = torch.as_tensor(numbers, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        what = f"{type(numbers).__name__} ({error})"
        raise TypeError(f"{name}: expected a tensor or whole numbers, got {what}") from error
    return tensor if tensor.numel() or isinstance(numbers, Tensor) else tensor.long()  # [] is the empty multiset


def _one(values: Tensor | None, dims: int, n: int = 1) -> Tensor | None:
    """The values of one set as those of n equal ones."""
    return values if values is None or values.dim() != dims else values.expand(n, *values.shape)


def _whole(labels: np.ndarray) -> bool:
    return labels.dtype.kind in "iu"


def _weight(start: float, until: float, progress: float | Tensor) -> float | Tensor:
    """Linear from ``start`` to 1 over the first ``until`` of the training."""
    if isinstance(progress, Tensor):
        return torch.where(progress >= until, 1.0, start + (1.0 - start) * progress / until) if until else 1.0
    return 1.0 if progress >= until else start + (1.0 - start) * progress / until
