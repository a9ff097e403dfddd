"""A model's losses by torch.compile, for batches whose K varies from step to step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compvae_fast.models import CompVAE
from compvae_fast.models.compvae import Losses

from .errors import BadInput


def compiled_losses(model: CompVAE) -> Callable[..., Losses]:
    """``model.loss``, compiled at its first call.

    What is another number at every step comes as a tensor, and the parts' dimension as one of any size: of a model
    that looks at no values the code is made anew only where K is 1 for all sets of a batch, and where the score of
    generated wholes begins.
    """
    compiled = torch.compile(model.loss)
    config = model.config

    def losses(x: Tensor, labels: Tensor, *, seed: int, progress: float, features: Tensor | None, **layout) -> Losses:
        for of_parts in (labels, features):
            if of_parts is not None:
                torch._dynamo.maybe_mark_dynamic(of_parts, labels.dim() - 1)
        return compiled(
            x,
            labels,
            features=features,
            seed=torch.tensor((seed + 2**63) % 2**64 - 2**63),
            progress=torch.tensor(progress, dtype=torch.float64),
            generating=bool(config.generation_weight) and progress >= config.generation_from,
            **layout,
        )

    return losses


def check_compiler() -> None:
    """Raise BadInput where torch.compile does not work, for want of a C++ compiler or otherwise."""
    try:
        torch.compile(torch.sin)(torch.zeros(2))
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise BadInput(f"compile: expected torch.compile to work here, got: {reason}") from error
