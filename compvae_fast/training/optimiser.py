"""Optimisers made from a recipe, their state by parameter name, and averaged weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compvae_fast.models import TrainingRecipe

from .errors import BadInput


def make_optimiser(recipe: TrainingRecipe, model: nn.Module, capturable: bool = False) -> torch.optim.Optimizer:
    """The recipe's optimiser over its parameter groups, fused into one kernel where torch has it.

    capturable: its rates and step counts are tensors on the parameters' device, and a step may be captured.
    """
    groups = [{**group, "lr": recipe.lr * group["factor"]} for group in recipe.parameter_groups(model)]
    settings: dict[str, Any] = {"lr": recipe.lr, "betas": tuple(recipe.betas), "eps": recipe.eps}
    if recipe.optimizer == "adam":
        optimiser = torch.optim.Adam(groups, fused=True, **settings)
        if capturable:
            device = next(model.parameters()).device
            # the kernel of CUDA devices reads the rate as float32
            kind = torch.float64 if device.type == "cpu" else torch.float32
            for group in optimiser.param_groups:
                group["lr"] = torch.tensor(group["lr"], dtype=kind, device=device)
                group["capturable"] = device.type != "cpu"
        return optimiser
    if capturable:
        raise BadInput(f"graphs: expected the optimizer 'adam', whose steps can be captured, got {recipe.optimizer!r}")
    if recipe.optimizer == "adamax":
        return torch.optim.Adamax(groups, **settings)
    raise BadInput(f"recipe.optimizer: expected 'adam' or 'adamax', got {recipe.optimizer!r}")


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """``rate`` times each group's own factor."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["factor"])
        else:
            group["lr"] = rate * group["factor"]


def optimiser_tensors(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state as {"<parameter>/<key>": tensor}."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of ``optimiser_tensors``. Raises KeyError for a parameter the model has not."""
    parameters = dict(model.named_parameters())
    optimiser.state.clear()
    for name, value in tensors.items():
        parameter, key = name.rsplit("/", 1)
        optimiser.state[parameters[parameter]][key] = value


class AveragedWeights:
    """Exponential moving averages of the parameters, and the buffers as they are.

    average <- average + (1 - d) (parameter - average), d = min(decay, (1 + n) / (10 + n)) at update n = 0, 1, ...:
    the bound on d lets the first weights, which are no better than chance, be forgotten at once.
    With decay None the average is the model itself.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self._parameters: list[Tensor] = list(model.parameters())
        self._decay = decay
        self._names = [name for name, _ in model.named_parameters()]
        self._averages = [] if decay is None else [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Take the parameters in, after ``count`` earlier updates."""
        if self._decay is not None:
            decay = min(self._decay, (1 + count) / (10 + count))
            torch._foreach_lerp_(self._averages, self._parameters, 1 - decay)

    @torch.no_grad()
    def update_if(self, taken: Tensor, count: Tensor) -> None:
        """The same where ``taken``, 0-d bool, after ``count`` earlier updates, 0-d float64; waits for no device."""
        if self._decay is not None:
            share = torch.where(taken, 1 - ((1 + count) / (10 + count)).clamp(max=self._decay), 0.0)
            for average, parameter in zip(self._averages, self._parameters):
                average.lerp_(parameter, share.to(average.dtype))

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name; empty without averaging."""
        return dict(zip(self._names, self._averages))

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of ``tensors``. Raises KeyError for one that is missing."""
        for name, average in zip(self._names, self._averages):
            average.copy_(tensors[name])
