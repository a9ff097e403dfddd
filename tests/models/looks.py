"""Models as the tests take them: with nothing at zero, and layer by layer in the words of the papers' tables."""

import torch
from torch import nn

from compvae_fast.models import CompVAE
from compvae_fast.nn import GaussianHead, Residual


def shaken(preset, *, by=0.5, **overrides):
    """A model whose every parameter is random: nothing is zero, q differs from p."""
    torch.manual_seed(1)
    model = CompVAE.from_preset(preset, **overrides)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = by / max(parameter.shape[-1] if parameter.dim() > 1 else 1, 1) ** 0.5
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def described(layers):
    """Layers as short words: what the tables print."""
    return [_word(layer) for layer in layers]


def _word(layer):
    match layer:
        case nn.Linear():
            return f"Linear({layer.in_features}, {layer.out_features})"
        case GaussianHead():
            return f"Linear({layer.linear.in_features}, {layer.linear.out_features})"
        case Residual():
            return f"Residual({layer.fc1.in_features})"
        case nn.Conv1d() | nn.ConvTranspose1d() | nn.Conv2d():
            size, stride, pad = layer.kernel_size[0], layer.stride[0], layer.padding[0]
            channels = f"{layer.in_channels}, {layer.out_channels}"
            return f"{type(layer).__name__}({channels}, ks={size}, s={stride}, p={pad})"
        case nn.ELU() | nn.Tanh():
            return type(layer).__name__
        case nn.Upsample():
            return f"{layer.mode} x{layer.scale_factor:g}"
        case nn.Flatten() | nn.Unflatten():
            return "Reshape"
        case _:
            raise AssertionError(f"a layer no table has: {layer}")
