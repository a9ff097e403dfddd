"""The helpers for code that moves over (the noise as a tensor is tested beside the registry)."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compvae_fast import ops, patch


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc_1, self.fc_2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.fc_2(F.elu(self.fc_1(x)))


class GraphBlock(nn.Module):
    """As the released code has it: wide (1D) with f_3, else (2D) without."""

    def __init__(self, width, out, wide):
        super().__init__()
        self.g_1, self.g_2, self.g_3 = Residual(width), Residual(width), Residual(width)
        middle = width + out if wide else out
        self.f_1, self.f_2 = nn.Linear(2 * width, middle), Residual(middle)
        if wide:
            self.f_3 = nn.Linear(middle, out)

    def forward(self, h):
        g = F.elu(self.g_1(h))
        others = self.g_3(torch.tanh(self.g_2(g.sum(1, keepdim=True) - g)))
        h = self.f_2(F.elu(self.f_1(torch.cat([h, others], 2))))
        return self.f_3(F.elu(h)) if hasattr(self, "f_3") else h


@pytest.mark.parametrize("wide", (True, False))
def test_graph_blocks_compute_the_same(wide):
    torch.manual_seed(0)
    model = nn.Sequential(GraphBlock(6, 4, wide), nn.ELU(), GraphBlock(4, 4, wide)).double()
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    before = model(x)
    gradients = torch.autograd.grad(before.square().sum(), list(model.parameters()))
    names = list(model.state_dict())
    assert patch.graph_blocks(model) == 2
    calls = []
    original = ops.sum_minus_self
    try:
        ops.sum_minus_self = lambda *a, **k: calls.append(k) or original(*a, **k)
        after = model(x)
    finally:
        ops.sum_minus_self = original
    assert calls == [{"pre": "elu"}] * 2 and list(model.state_dict()) == names
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(torch.autograd.grad(after.square().sum(), list(model.parameters())), gradients)


def test_models_without_graph_blocks_are_refused():
    with pytest.raises(ValueError, match="model: expected submodules of a class GraphBlock with g_1, .*, found none"):
        patch.graph_blocks(nn.Sequential(Residual(3)))


def test_sum_and_loss_is_the_released_formula():
    torch.manual_seed(0)
    mu_q, logvar_q, logits, mu_p, logvar_p = torch.randn(5, 3, 4, 6, dtype=torch.float64)
    w_sum, loss = patch.sum_and_loss(mu_q, logvar_q, logits, mu_p, logvar_p, seed=9)
    log_rho = F.log_softmax(torch.cat([logits, logits.new_zeros(3, 1, 6)], 1), 1)
    rho, log_rest, eps = log_rho[:, :4].exp(), log_rho[:, 4], patch.noise_like(mu_q, 9)
    w = torch.exp(logvar_q / 2) * (eps - rho * eps.sum(1, keepdim=True)) + mu_q
    torch.testing.assert_close(w_sum, w.sum(1), rtol=1e-6, atol=1e-6)
    inside = logvar_p - logvar_q + (mu_q - mu_p) ** 2 * torch.exp(-logvar_p)
    inside = inside + (1 - 2 * rho + 4 * rho**2) * torch.exp(logvar_q - logvar_p)
    torch.testing.assert_close(loss, 0.5 * (inside.sum(1) - 2 * log_rest - 4).sum() / 3)
