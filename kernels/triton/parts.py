"""The noise of single parts, w_i - mu_i, once the sums over the set are known; and the gradient of anything that is a
function of the parts. Only a part with rho > 1/2 needs the forms that keep it apart; it is m, the one with the
largest logit."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from compvae_fast.kernels.triton.elementary import exact_exp
from compvae_fast.kernels.triton.multiset import WholeSet, reference_of
from compvae_fast.kernels.triton.places import first_segment, segment_length, slot_at


@triton.jit
def load_whole(stats, sets, place, there, BLOCK: tl.constexpr):
    """What a forward pass without the KL left in stats."""
    logit = tl.load(slot_at(stats, sets, place, 0, BLOCK), mask=there, other=0.0)
    inverse_z = tl.load(slot_at(stats, sets, place, 1, BLOCK), mask=there, other=0.0)
    one_minus_rho_m = tl.load(slot_at(stats, sets, place, 2, BLOCK), mask=there, other=0.0)
    noise = tl.load(slot_at(stats, sets, place, 3, BLOCK), mask=there, other=0.0)
    noise_others = tl.load(slot_at(stats, sets, place, 4, BLOCK), mask=there, other=0.0)
    rest = tl.load(slot_at(stats, sets, place, 5, BLOCK), mask=there, other=0.0)
    return WholeSet(reference_of(logit), inverse_z, one_minus_rho_m, noise, noise_others, rest)


@triton.jit
def rho_of(whole, logit):
    return exact_exp(logit - whole.reference) * whole.inverse_z


@triton.jit
def noise_of_part(whole, rho, sigma, eps, UNIT: tl.constexpr):
    """w_i - mu_i."""
    is_m = rho > 0.5
    own = tl.where(is_m, whole.one_minus_rho_m * eps, eps)
    others = rho * tl.where(is_m, whole.noise_others, whole.noise)
    return sigma * (own - others) if UNIT else sigma * own - others


class Centring(NamedTuple):
    """Towards a_i - sum_j rho_j a_j, where a_i is the upstream gradient of w_i ("scaled") or sigma_i times it ("unit").

    Where sum rho >= 1/2 it is (a_i - a_r) + a_r (1 - sum rho) - sum_j rho_j (a_j - a_r), r being the part with the
    largest rho, so that nothing cancels where all a are nearly the same; where it is less, nothing does, and a_r could
    be large. `reference` a_r, `largest` rho_r, and in float64 the sums over rho_j (a_j - a_r) and rho_j.
    """

    reference: Any
    largest: Any
    sum: Any
    rhos: Any


@triton.jit
def no_parts(T: tl.constexpr, BLOCK: tl.constexpr):
    wide = tl.zeros([BLOCK], tl.float64)
    return Centring(tl.zeros([BLOCK], T), tl.zeros([BLOCK], T), wide, wide)


@triton.jit
def add_part(c, rho, a):
    """One part more."""
    is_larger = rho > c.largest
    reference = tl.where(is_larger, a, c.reference)
    moved = c.reference.to(tl.float64) - reference.to(tl.float64)
    apart = tl.where(is_larger, 0.0, a.to(tl.float64) - reference.to(tl.float64))
    wide = rho.to(tl.float64)
    return Centring(reference, tl.where(is_larger, rho, c.largest), c.sum + (moved * c.rhos + wide * apart),
                    c.rhos + wide)


@triton.jit
def settled(c):
    """After the last part."""
    is_little = c.rhos < 0.5
    return Centring(tl.where(is_little, 0.0, c.reference).to(c.reference.dtype), c.largest,
                    tl.where(is_little, c.sum + c.reference.to(tl.float64) * c.rhos, c.sum), c.rhos)


@triton.jit
def offset_of(c, rest):
    """What to add to a_i - a_r, given 1 - sum rho."""
    return c.reference * rest - c.sum.to(rest.dtype)


@triton.jit
def centred(a, rho, reference, offset):
    # The m that is the reference is apart from it by nothing, whichever way its product was rounded.
    return tl.where(rho > 0.5, 0.0, a - reference) + offset


@triton.jit
def _centring_at(partial, sets, item, column, slot: tl.constexpr, BLOCK: tl.constexpr):
    return partial + (item * 4 + slot) * sets.width + column + tl.arange(0, BLOCK)


@triton.jit
def store_centring(partial, sets, place, there, c, BLOCK: tl.constexpr):
    for i in tl.static_range(4):
        tl.store(_centring_at(partial, sets, place.item, place.column, i, BLOCK), c[i], mask=there)


@triton.jit
def merge_centring(partial, sets, place, there, T: tl.constexpr, BLOCK: tl.constexpr):
    """What the segments of a set left, in their order."""
    length = segment_length(place.end)
    first = first_segment(sets, place.set)
    c = no_parts(T, BLOCK)
    for item in range(first, first + (place.end + length - 1) // length):
        reference = tl.load(_centring_at(partial, sets, item, place.column, 0, BLOCK), mask=there, other=0.0)
        largest = tl.load(_centring_at(partial, sets, item, place.column, 1, BLOCK), mask=there, other=0.0)
        sum_ = tl.load(_centring_at(partial, sets, item, place.column, 2, BLOCK), mask=there, other=0.0)
        rhos = tl.load(_centring_at(partial, sets, item, place.column, 3, BLOCK), mask=there, other=0.0)
        is_larger = largest > c.largest
        both = tl.where(is_larger, reference, c.reference.to(tl.float64))
        total = c.sum + (c.reference.to(tl.float64) - both) * c.rhos + (sum_ + (reference - both) * rhos)
        c = Centring(both.to(T), tl.where(is_larger, largest, c.largest).to(T), total, c.rhos + rhos)
    return c
