"""A VAE over padded sets with masks: points that see each other, a posterior of the set, a likelihood of its points.

    python examples/padded_set_vae.py
"""

from __future__ import annotations

import torch
from comparison import Side, arguments, equal, faster
from torch import Tensor, nn
from torch.nn import functional as F

from compvae_fast import ops


class Before(nn.Module):
    """Sets of points [B, K, F], of which mask [B, K] says which are there, and lengths [B] how many lead each row."""

    def __init__(self, features: int, hidden: int, latent: int):
        super().__init__()
        self.embed, self.message = nn.Linear(features, hidden), nn.Linear(hidden, hidden)
        self.experts = nn.Linear(2 * hidden, 2 * latent)
        self.decode = nn.Sequential(nn.Linear(latent, hidden), nn.ELU(), nn.Linear(hidden, 2 * features))

    def forward(self, x: Tensor, lengths: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(negative log-likelihood of each set [B], its KL divergence to N(0, 1) [B])"""
        mask = torch.arange(x.shape[1]) < lengths[:, None]
        h = self.embed(x)
        h = torch.cat([h, self.others(self.message(h), mask, lengths)], -1)
        mu, logvar = self.posterior(*self.experts(h).chunk(2, -1), mask)
        z = mu + torch.exp(logvar / 2) * noise
        x_mu, x_logvar = self.decode(z)[:, None].expand(-1, x.shape[1], -1).chunk(2, -1)
        return self.nll(x, x_mu, x_logvar, mask), self.divergence(mu, logvar)

    def others(self, messages: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        messages = F.elu(messages).masked_fill(~mask[..., None], 0)
        return (messages.sum(1, keepdim=True) - messages).masked_fill(~mask[..., None], 0)

    def posterior(self, mu: Tensor, logvar: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        precision = torch.exp(-logvar).masked_fill(~mask[..., None], 0)
        total = precision.sum(1) + 1
        return (precision * mu).sum(1) / total, -torch.log(total)

    def divergence(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return 0.5 * (mu**2 + torch.exp(logvar) - logvar - 1).sum(-1)

    def nll(self, x: Tensor, mu: Tensor, logvar: Tensor, mask: Tensor) -> Tensor:
        terms = torch.log(torch.tensor(2 * torch.pi)) + logvar + (x - mu) ** 2 * torch.exp(-logvar)
        return 0.5 * terms.sum(-1).masked_fill(~mask, 0).sum(-1)


class After(Before):
    def others(self, messages: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        return ops.sum_minus_self(messages, lengths=lengths, pre="elu")

    def posterior(self, mu: Tensor, logvar: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return ops.product_of_experts(mu, logvar, mask=mask)

    def divergence(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return ops.diag_normal_kl(mu, logvar, torch.zeros_like(mu), torch.zeros_like(mu))

    def nll(self, x: Tensor, mu: Tensor, logvar: Tensor, mask: Tensor) -> Tensor:
        # What a masked point is said to be does not count: the mean itself, with variance 1/(2 pi), costs nothing.
        there = mask[..., None]
        free = -torch.log(torch.tensor(2 * torch.pi))
        return ops.gaussian_nll(torch.where(there, x, 0), torch.where(there, mu, 0), torch.where(there, logvar, free))


def main() -> None:
    given = arguments(__doc__)
    sets, parts, features, hidden, latent = (4, 5, 3, 16, 8) if given.small else (64, 64, 32, 256, 256)
    torch.manual_seed(0)
    before, after = Before(features, hidden, latent), After(features, hidden, latent)
    after.load_state_dict(before.state_dict())
    lengths = torch.randint(1, parts + 1, (sets,))
    x, noise = torch.randn(sets, parts, features), torch.randn(sets, latent)
    padding = torch.arange(parts) >= lengths[:, None]
    sides = [Side(lambda model=model: model(x, lengths, noise), list(model.parameters())) for model in (before, after)]
    equal("losses and gradients of all weights", *sides)
    wild = x.masked_fill(padding[..., None], 1e5)
    for name, model in (("before", before), ("after", after)):
        _, gradients = Side(lambda model=model: model(wild, lengths, noise), list(model.parameters())).run()
        finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
        print(f"{name}, with 1e5 in the padding: gradients are {'finite' if finite else 'NaN'}")
    faster("a step, linear layers included", *sides, given.seconds)
    mask = torch.arange(parts) < lengths[:, None]
    messages = torch.randn(sets, parts, hidden, requires_grad=True)
    faster("the sum over the others alone", Side(lambda: before.others(messages, mask, lengths), [messages]),
           Side(lambda: after.others(messages, mask, lengths), [messages]), given.seconds)
    experts = [t.requires_grad_() for t in torch.randn(2, sets, parts, latent).unbind()]
    faster("the product of experts alone", Side(lambda: before.posterior(*experts, mask), experts),
           Side(lambda: after.posterior(*experts, mask), experts), given.seconds)


if __name__ == "__main__":
    main()
