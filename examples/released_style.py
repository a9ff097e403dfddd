"""A VAE in the style of the paper's released code: its loss in plain PyTorch, then fused.

The plain loss makes tensors of the size of all parts again and again: a softmax with one more logit, the noise, the
parts w_i, and the terms of the KL divergence. The fused one goes over the posterior once.

    python examples/released_style.py
"""

from __future__ import annotations

import torch
from comparison import Side, arguments, equal, faster
from torch import Tensor, nn
from torch.nn import functional as F

from compvae_fast import patch

SEED = 1


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc_1, self.fc_2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc_2(F.elu(self.fc_1(x)))


class GraphBlock(nn.Module):
    def __init__(self, width: int, out: int):
        super().__init__()
        self.g_1, self.g_2, self.g_3 = Residual(width), Residual(width), Residual(width)
        self.f_1, self.f_2 = nn.Linear(2 * width, width + out), Residual(width + out)
        self.f_3 = nn.Linear(width + out, out)

    def forward(self, h: Tensor) -> Tensor:
        g = F.elu(self.g_1(h))
        others = torch.sum(g, dim=1, keepdim=True) - g
        others = self.g_3(torch.tanh(self.g_2(others)))
        return self.f_3(F.elu(self.f_2(F.elu(self.f_1(torch.cat([h, others], dim=2))))))


class VAE(nn.Module):
    """Wholes x [B, T] of parts with labels [B, K]: q(z | x), q({w_i} | x, z, l), p(w_i | l_i), p(z | w), p(x | w, z)"""

    def __init__(self, observed: int = 200, labels: int = 10, w: int = 1024, z: int = 64, hidden: int = 256):
        super().__init__()
        self.x_in = nn.Sequential(nn.Linear(observed, hidden), nn.ELU(), Residual(hidden), nn.ELU())
        self.label_in = nn.Embedding(labels, hidden)
        self.z_q, self.z_p = nn.Linear(hidden, 2 * z), nn.Linear(w, 2 * z)
        self.w_1, self.w_2 = GraphBlock(2 * hidden + z, hidden), GraphBlock(hidden, hidden)
        self.w_out = nn.Linear(hidden, 3 * w)
        self.w_mu, self.w_logvar = nn.Embedding(labels, w), nn.Embedding(labels, w)
        self.x_out = nn.Sequential(nn.Linear(w + z, hidden), nn.ELU(), nn.Linear(hidden, 2 * observed))
        self.randn = torch.randn_like

    def losses(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.x_in(x)
        z_mu, z_logvar = self.z_q(h).chunk(2, -1)
        z = z_mu + torch.exp(z_logvar / 2) * torch.randn_like(z_mu)
        context = torch.cat([h, z], -1)[:, None].expand(-1, labels.shape[1], -1)
        parts = torch.cat([self.label_in(labels), context], -1)
        mu_q, logvar_q, logits = self.w_out(F.elu(self.w_2(F.elu(self.w_1(parts))))).chunk(3, -1)
        w, loss_w = self.sum_and_loss(mu_q, logvar_q, logits, self.w_mu(labels), self.w_logvar(labels))
        mu_p, logvar_p = self.z_p(w).chunk(2, -1)
        loss_z = 0.5 * torch.sum((z - mu_p) ** 2 * torch.exp(-logvar_p) + logvar_p - z_logvar - 1) / len(x)
        x_mu, x_logvar = self.x_out(torch.cat([w, z], -1)).chunk(2, -1)
        loss_x = 0.5 * torch.sum((x - x_mu) ** 2 * torch.exp(-x_logvar) + x_logvar) / len(x)
        return loss_w, loss_z, loss_x

    def sum_and_loss(self, mu_q, logvar_q, logits, mu_p, logvar_p):
        B, K, W = mu_q.shape
        log_rho = F.log_softmax(torch.cat([logits, logits.new_zeros(B, 1, W)], dim=1), dim=1)
        rho, log_rest = torch.exp(log_rho[:, :K]), log_rho[:, K]
        eps = self.randn(mu_q)
        w = torch.exp(logvar_q / 2) * (eps - rho * torch.sum(eps, dim=1, keepdim=True)) + mu_q
        loss = 0.5 * torch.sum(
            torch.sum(logvar_p - logvar_q, dim=1) - 2 * log_rest
            + torch.sum((mu_q - mu_p) ** 2 * torch.exp(-logvar_p), dim=1)
            + torch.sum((1 - 2 * rho + K * rho**2) * torch.exp(logvar_q - logvar_p), dim=1) - K
        ) / B
        return torch.sum(w, dim=1), loss


class FusedVAE(VAE):
    seed: int | None = None

    def sum_and_loss(self, mu_q, logvar_q, logits, mu_p, logvar_p):
        return patch.sum_and_loss(mu_q, logvar_q, logits, mu_p, logvar_p, seed=self.seed)


def main() -> None:
    given = arguments(__doc__)
    sets, parts, sizes = (4, 3, {"w": 32, "z": 8, "hidden": 16}) if given.small else (64, 16, {})
    torch.manual_seed(0)
    before, after = VAE(**sizes), FusedVAE(**sizes)
    after.load_state_dict(before.state_dict())
    patch.graph_blocks(after)
    x, labels = torch.randn(sets, 200), torch.randint(10, (sets, parts))

    def side(model: VAE) -> Side:
        def step():
            torch.manual_seed(2)  # of z's noise
            return model.losses(x, labels)

        return Side(step, list(model.parameters()))

    # The plain loss draws the noise of the fused one, so that the two can be compared; it is timed with its own.
    before.randn, after.seed = lambda like: patch.noise_like(like, SEED), SEED
    equal("losses and gradients of all weights", side(before), side(after))
    before.randn, after.seed = torch.randn_like, None
    faster("a step, networks included", side(before), side(after), given.seconds)

    posterior = [t.requires_grad_() for t in torch.randn(5, sets, parts, before.w_mu.embedding_dim).unbind()]
    faster("the loss of the parts alone", Side(lambda: before.sum_and_loss(*posterior), posterior),
           Side(lambda: after.sum_and_loss(*posterior), posterior), given.seconds)


if __name__ == "__main__":
    main()
