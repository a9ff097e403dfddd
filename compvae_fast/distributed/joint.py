"""How the shards' states become the numbers of the whole set: w~, the KL, log q, and what each part's gradient needs.

The formulas are those of csrc/cpu/multiset.h, in float64 and once for each set and coordinate. m, the part with the
largest logit of all, stays out of the sums; every other shard's own m joins them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compvae_fast.distributed.wire import Wire
from compvae_fast.reference.shards import POSTERIOR_STATS, named

Rows = dict[str, Tensor]
_OF_M = {"logit", "logvar_q", "logvar_p", "difference", "normal"}

# States of up to so many bytes in all are sent to every rank, which joins them itself: one collective instead of
# four, and the wait for each is longer than what such a number of bytes takes.
GATHERED = 1 << 26


def joined(wire: Wire, names: tuple[str, ...], state: Tensor, sizes: Tensor, coupling: str) -> Rows:
    """The state of the union of all shards, the same bits on every rank.

    names: of the rows of state [R, B, D]; sizes [ranks, B]: how many parts each rank has.
    """
    of_m = sum(name in _OF_M for name in names)
    present = (sizes > 0)[..., None]
    if wire.size * state.numel() * state.element_size() <= GATHERED:
        every = wire.gathered(state)
        logit = torch.where(present, every[:, 0], -torch.inf)
        owner = logit.argmax(0)  # the first of equals
        m = every[:, :of_m].gather(0, owner.expand(1, of_m, *owner.shape))[0]
        m[0] = logit.amax(0)
        joins = present & (torch.arange(wire.size, device=owner.device)[:, None, None] != owner)
        sums = torch.where(present, _relative_to(m, every.movedim(1, 0), joins, names, coupling), 0).sum(1)
        return named(names, torch.cat([m, sums]))
    here = present[wire.rank]
    logit = torch.where(here, state[0], -torch.inf)
    largest = wire.largest(logit)
    owner = wire.smallest(torch.where(here & (logit == largest), wire.rank, wire.size))
    mine = owner == wire.rank
    m = wire.sum(torch.where(mine, state[:of_m], 0))
    m[0] = largest
    sums = torch.where(here, _relative_to(m, state, here & ~mine, names, coupling), 0)
    return named(names, torch.cat([m, wire.sum(sums)]))


def _relative_to(m: Tensor, state: Tensor, joins: Tensor, names: tuple[str, ...], coupling: str) -> Tensor:
    """A shard's sums relative to the joint m; its own m is among them where it ``joins``.

    state: rows of [B, D] or, of all shards, [ranks, B, D].
    """
    of, joint, unit = named(names, state), named(names, m), coupling == "unit"
    ref = joint["logit"].clamp(min=0)
    rescale, e = torch.exp(of["logit"].clamp(min=0) - ref), torch.where(joins, torch.exp(of["logit"] - ref), 0)
    sigma = torch.exp(of["logvar_q"] / 2)
    out = {"others": of["others"] * rescale + e,
           "noise": of["noise"] + torch.where(joins, of["normal"] if unit else sigma * of["normal"], 0)}
    if "base" in of:
        x = of["logvar_q"] - of["logvar_p"]
        ratio, precision = torch.exp(x), torch.exp(-of["logvar_p"])
        excess = torch.expm1(x) - x + of["difference"].square() * precision
        out["base"] = of["base"] + torch.where(joins, excess, 0)
        out["trace"] = of["trace"] * rescale + e * torch.where(joins, ratio, 0)
        weight = torch.where(joins, ratio if unit else precision, 0)
        out["squares"] = of["squares"] * rescale.square() + e.square() * weight
    if "shift" in of:
        change = torch.where(joins, -sigma * torch.expm1((joint["logvar_q"] - of["logvar_q"]) / 2), 0)
        out["spread"] = of["spread"] + change * out["noise"]
        out["shift"] = of["shift"] * rescale + change * out["others"]
    elif "spread" in of:
        out["spread"] = of["spread"] + torch.where(joins, sigma.square(), 0)
    return torch.stack([out.get(name, of[name]) for name in names if name not in _OF_M])


def _normalised(of: Rows, counts: Tensor) -> Rows:
    """What every operation needs of a joint state: L, 1 / Z, 1 - rho_m and 1 - sum rho."""
    ref = of["logit"].clamp(min=0)
    one, e_m = torch.exp(-ref), torch.where(counts[:, None] > 0, torch.exp(of["logit"] - ref), 0)
    z = one + of["others"] + e_m
    return {"inverse_z": 1 / z, "rho_m": e_m / z, "one_minus_rho_m": (one + of["others"]) / z, "rest": one / z,
            "log_total": ref + torch.log(z)}


def finished_posterior(of: Rows, counts: Tensor, coupling: str) -> tuple[Tensor, Tensor, Tensor]:
    """(w~ [B, D], KL [B], stats [.., B, D]) of a joint state; counts [B] parts of each set; float64."""
    some, count, rho = counts[:, None] > 0, counts[:, None].to(torch.float64), _normalised(of, counts)
    rho_m, one_minus_rho, rest, inverse_z = (rho[name] for name in ("rho_m", "one_minus_rho_m", "rest", "inverse_z"))
    sigma_m, precision_m = torch.exp(of["logvar_q"] / 2), torch.exp(-of["logvar_p"])
    ratio_m = torch.exp(of["logvar_q"] - of["logvar_p"])
    first, second = of["trace"] * inverse_z, of["squares"] * inverse_z.square()
    quadratic = of["difference"].square() * precision_m
    if coupling == "unit":
        total = of["noise"] + of["normal"]
        factor = sigma_m * rest - of["shift"] * inverse_z
        noise_of_sum = of["spread"] + factor * total
        factor_m = one_minus_rho.square() + (count - 1) * rho_m.square()
        trace_others, trace_m = count * second - 2 * first, factor_m * ratio_m
        y_m, h_others = ratio_m * ((count - 1) * rho_m - one_minus_rho), count * second - first
        own = {"noise_others": of["noise"], "noise_factor": factor, "logvar_m": of["logvar_q"], "factor_m": factor_m}
    else:
        total = of["noise"] + sigma_m * of["normal"]
        noise_of_sum = rest * total
        v = of["spread"] + sigma_m.square()
        trace_others = second * v - 2 * first
        trace_m = one_minus_rho.square() * ratio_m + rho_m.square() * of["spread"] * precision_m
        y_m = rho_m * of["spread"] * precision_m - one_minus_rho * ratio_m
        h_others = second * v - first
        own = {"noise_factor": rest, "v": v, "v_others": of["spread"], "q": second + rho_m.square() * precision_m,
               "q_others": second}
    terms = (of["base"] + trace_others + (trace_m + quadratic - 1) - (of["logvar_q"] - of["logvar_p"])) / 2
    kl = torch.where(some, terms + rho["log_total"], 0).sum(1)
    w_sum = torch.where(some, of["means"] + noise_of_sum, 0)
    stats = {**of, **rho, **own, "noise": total, "h": rho_m * y_m + h_others, "h_others": h_others}
    return w_sum, kl, torch.stack([stats[name] for name in POSTERIOR_STATS[coupling]])


def finished_parts(of: Rows, counts: Tensor, coupling: str) -> tuple[Tensor, Tensor | None]:
    """(stats [6, B, D], log q [B] if the state has densities) of a joint state; float64."""
    rho = _normalised(of, counts)
    noise = of["noise"] + (of["normal"] if coupling == "unit" else torch.exp(of["logvar_q"] / 2) * of["normal"])
    stats = torch.stack([of["logit"], rho["inverse_z"], rho["one_minus_rho_m"], noise, of["noise"], rho["rest"]])
    if "densities" not in of:
        return stats, None
    constants = counts.double()[:, None] * math.log(2 * math.pi)
    log_q = torch.where(counts[:, None] > 0, rho["log_total"] - (of["densities"] + constants) / 2, 0)
    return stats, log_q.sum(1)


def joined_density(every: Tensor) -> tuple[Tensor, Tensor]:
    """(stats [3, B, D], L [B, D]) of each shard's max(0, nu_m), sum exp(nu - that) and sum of residuals.

    every: [ranks, 3, B, D]. The stats are the first three of those that the operation on whole sets leaves for its
    backward pass.
    """
    references, z, residuals = every.unbind(1)
    ref = references.amax(0)
    total_z = torch.exp(-ref) + (z * torch.exp(references - ref)).sum(0)
    log_total = ref + torch.log(total_z)
    return torch.stack([ref, 1 / total_z, residuals.sum(0) * torch.exp(log_total)]), log_total


def finished_density(stats: Tensor, log_total: Tensor, sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """(log q [B], all four stats) given the first three and the joint sums of squares and of what pulls, [2, B, D]."""
    squares, pull = sums
    constants = counts.double()[:, None] * math.log(2 * math.pi)
    density = torch.where(counts[:, None] > 0, log_total - (squares + constants) / 2, 0)
    return density.sum(1), torch.cat([stats, (pull * torch.exp(log_total))[None]])


def centred(wire: Wire, rows: Tensor) -> Tensor:
    """The joint (a_r, sum_j rho_j (a_j - a_r)), [2, B, D], of each shard's a_r, sum and sum rho, [3, B, D].

    r is that of the rank with the largest share of rho, which has the part with rho > 1/2 where there is one; where all
    of rho is less than that, a_r is taken as 0.
    """
    references, sums, rhos = wire.gathered(rows).unbind(1)
    reference = references.gather(0, rhos.argmax(0, keepdim=True))
    reference = torch.where(rhos.sum(0) < 0.5, 0, reference)
    return torch.stack([reference[0], (sums + (references - reference) * rhos).sum(0)])
