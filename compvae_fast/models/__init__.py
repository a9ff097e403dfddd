"""Models, their presets and the bounds on their likelihood."""

from .compvae import CompVAE, Losses
from .config import CompVAEConfig
from .evaluation import bits_of_parts, elbo, iw_bound
from .parts import Parts
from .presets import TrainingRecipe, preset_config, presets, recipe

__all__ = [
    "CompVAE",
    "CompVAEConfig",
    "Losses",
    "Parts",
    "TrainingRecipe",
    "bits_of_parts",
    "elbo",
    "iw_bound",
    "preset_config",
    "presets",
    "recipe",
]
