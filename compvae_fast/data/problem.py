"""What a problem offers to models, trainer and report, and the problems by name."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .multisets import sample_labels

_MODULES = {"sines": "sines", "dots": "dots", "households": "households.problem"}


class Batch(NamedTuple):
    """Wholes and what they are made of.

    Args:
        x: [B, ...].
        labels: of the parts, [B, K], or [N] with offsets [B+1].
        features: continuous features of the parts, [B, K, F] or [N, F]; None where the problem has none.
        context: external factors of the wholes, [B, C], or None.
    """

    x: Tensor
    labels: Tensor
    offsets: Tensor | None
    features: Tensor | None = None
    context: Tensor | None = None


class Description(NamedTuple):
    """What wholes are asked for: a ``Batch`` without x."""

    labels: Tensor
    offsets: Tensor | None
    features: Tensor | None = None
    context: Tensor | None = None


class Problem:
    """One family of wholes made of parts. A problem's module has one instance, ``PROBLEM``.

    All draws are pure functions of (seed, set, part), so that data do not depend on how sets are shared out, and a
    whole with one part less has all the others as they were.

    Attributes:
        name: by which a model's configuration and ``problem`` know it.
        shape: of a whole, without the batch.
        labels: smallest and largest label.
        label_names: what the labels are called, in their order; label_colours: what they look like, as CSS has it,
            where they are colours.
        features: F, how many continuous features a part has; feature_names says which, feature_range from where to
            where they go.
        context: C, how many numbers the external factors of a whole are.
        grows_with_parts: whether x is proportional to K; the scale by which K divides is then K, else 1.
        recipe_options: fields of ``models.TrainingRecipe`` that ``wholes`` takes.
        most_parts: the largest K that ``draw`` can serve, and most_measured that ``wholes`` can; None where any.
        axis: what the last dimension of a whole runs along, and the values' unit where they have one.
        true_up_to: of how many parts hundreds of true wholes are drawn in a moment; 0: of none.
        takes_within: whether ``wholes`` takes ``within``, smallest and largest label, and then waits for no device.
    """

    name: str
    shape: tuple[int, ...]
    labels: tuple[int, int]
    label_names: tuple[str, ...] = ()
    label_colours: tuple[str, ...] = ()
    features: int = 0
    feature_names: tuple[str, ...] = ()
    feature_range: tuple[float, float] = (0.0, 0.0)
    context: int = 0
    grows_with_parts: bool
    recipe_options: tuple[str, ...] = ()
    most_parts: int | None = None
    most_measured: int | None = None
    axis: str = ""
    true_up_to: int = 0
    takes_within: bool = False

    def open(self) -> None:
        """Read what wholes are made of, where that is files: raises ValueError or OSError, naming them."""

    def label_name(self, label: int) -> str:
        """What a label is called.

        >>> problem("dots").label_name(3), problem("sines").label_name(3)
        ('black', 'label 3')
        """
        return self.label_names[label - self.labels[0]] if self.label_names else f"label {label}"

    def label_colour(self, label: int) -> str | None:
        """What a label looks like, as CSS has it; None where labels are no colours."""
        return self.label_colours[label - self.labels[0]] if self.label_colours else None

    def example(self) -> Description:
        """One multiset to begin with, where somebody looks at a model."""
        return self.describe(1, 4, k_min=4, k_per_batch=1, seed=0)

    def wholes(
        self,
        labels: Tensor,
        *,
        offsets: Tensor | None = None,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
        context: Tensor | None = None,
        seed: int | Tensor,
        set_start: int = 0,
        part_start: int = 0,
        **options: Any,
    ) -> Tensor:
        """True wholes [B, ...] of parts of these labels and features, under these external factors.

        Args:
            labels: [B, K], padded with lengths [B], or [N] with offsets [B+1]; features: [B, K, F] or [N, F].
            context: [B, C].
            seed: of the parts' own variation; set_start, part_start: index of the first set and of each set's
                first part in it.
        """
        raise NotImplementedError

    def sample_labels(
        self, batch: int, k_max: int, *, labels: tuple[int, int] | None = None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """``multisets.sample_labels`` over the problem's own labels unless others are given."""
        return sample_labels(batch, k_max, labels=self.labels if labels is None else labels, **options)

    def sample_features(
        self, labels: Tensor, *, offsets: Tensor | None = None, seed: int | Tensor, set_start: int = 0
    ) -> Tensor | None:
        """Random features of the parts of these labels, [B, K, F] or [N, F]; None where F is 0."""
        return None

    def sample_context(
        self, batch: int, *, seed: int | Tensor, set_start: int = 0, device: torch.device | str | None = None
    ) -> Tensor | None:
        """Random external factors [B, C]; None where C is 0."""
        return None

    def describe(
        self, batch: int, k_max: int, *, seed: int | Tensor, set_start: int = 0, device=None, **options: Any
    ) -> Description:
        """Random multisets with their features and external factors; ``options`` as ``sample_labels`` takes them."""
        labels, offsets = self.sample_labels(
            batch, k_max, seed=seed, set_start=set_start, device=device, **options
        )
        features = self.sample_features(labels, offsets=offsets, seed=seed, set_start=set_start)
        context = self.sample_context(batch, seed=seed, set_start=set_start, device=device)
        return Description(labels, offsets, features, context)

    def draw(
        self, batch: int, k_max: int, *, seed: int | Tensor, set_start: int = 0, device=None, **options: Any
    ) -> Batch:
        """A training batch: ``describe``, and true ``wholes``.

        Args:
            options: ``recipe_options`` go to ``wholes``, the others to ``sample_labels``.

        >>> problem("sines").draw(4, 2, seed=1).x.shape
        torch.Size([4, 200])
        """
        own = {name: options.pop(name) for name in self.recipe_options if name in options}
        asked = self.describe(batch, k_max, seed=seed, set_start=set_start, device=device, **options)
        x = self.wholes(
            asked.labels, offsets=asked.offsets, features=asked.features, context=asked.context, seed=seed,
            set_start=set_start, **own,
        )
        return Batch(x, *asked)

    def separately(
        self, labels: Tensor, n: int, *, features: Tensor | None = None, context: Tensor | None = None,
        seed: int | Tensor,
    ) -> Tensor:
        """n aggregates [n, ...] of parts made one by one as wholes of their own.

        Their sum where wholes grow with K, else their mean: the plain Monte-Carlo simulator of paper section 4.1,
        which wholes would be equal to if parts did not act on each other. The parts' own variation is that of
        ``wholes`` of the same seed.

        Args:
            labels: [K], one multiset; features: [K, F]; context: [C].
        """
        alone = []
        for part in range(len(labels)):
            here = None if features is None else features[part].expand(n, 1, -1)
            under = None if context is None else context.expand(n, -1)
            one = labels[part].expand(n, 1)
            alone.append(self.wholes(one, features=here, context=under, seed=seed, part_start=part))
        if not alone:
            return torch.zeros(n, *self.shape, device=labels.device)
        together = torch.stack(alone)
        return together.sum(0) if self.grows_with_parts else together.mean(0)

    def rivals(
        self, labels: Tensor, n: int, *, features: Tensor | None = None, context: Tensor | None = None,
        seed: int | Tensor,
    ) -> dict[str, Tensor]:
        """What needs no learning, to set generated wholes beside: n wholes [n, ...] by name, arguments as above."""
        return {"saturated": self.separately(labels, n, features=features, context=context, seed=seed)}

    def check(self, features: Tensor | None, context: Tensor | None) -> None:
        """Raise ValueError where features or context are given to a problem that has none, or are missing."""
        self._check("features", features, f"{self.features} numbers for each part" if self.features else None)
        self.check_context(context)

    def check_context(self, context: Tensor | None) -> None:
        """``check`` of the context alone."""
        self._check("context", context, f"{self.context} numbers for each whole" if self.context else None)

    def _check(self, name: str, given: Tensor | None, expected: str | None) -> None:
        if (given is None) != (expected is None):
            got = None if given is None else list(given.shape)
            raise ValueError(f"{name}: expected {expected} in the problem {self.name!r}, got {got}")


def problems() -> tuple[str, ...]:
    """The names of the problems."""
    return tuple(_MODULES)


def problem(name: str) -> Problem:
    """The problem of that name; ValueError lists the known ones.

    >>> problem("sines").shape
    (200,)
    """
    if name not in _MODULES:
        raise ValueError(f"problem: expected one of {', '.join(_MODULES)}, got {name!r}")
    return importlib.import_module(f".{_MODULES[name]}", __package__).PROBLEM
