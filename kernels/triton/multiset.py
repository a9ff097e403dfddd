"""The sums over a multiset that the correlated Gaussian needs, in one pass over the inputs; csrc/cpu/multiset.h has the
notation and the rows of stats.

The part m with the largest logit is kept out of the sums. Parts meet it one by one: the one of the two with the
smaller logit joins the others, and the sums are rescaled where m changed. Chunks of CHUNK parts are summed in the
compute type T and merged in float64; so are the segments of a long set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from compvae_fast.kernels.triton.elementary import exp, exp_excess, expm1, log
from compvae_fast.kernels.triton.normals import draw
from compvae_fast.kernels.triton.places import (
    CHUNK,
    first_segment,
    load_row,
    segment_length,
    set_of_noise,
    slot_at,
    store_groups,
    store_vector,
    within,
)


class Part(NamedTuple):
    """One part at a block of coordinates; difference: mu_q - mu_p."""

    logit: Any
    logvar: Any
    logvar_p: Any
    difference: Any
    eps: Any


class WholeSet(NamedTuple):
    """What the parts of a set share: max(0, nu_m), 1/Z, 1 - rho_m, the noise with and without m, and exp(-L)."""

    reference: Any
    inverse_z: Any
    one_minus_rho_m: Any
    noise: Any
    noise_others: Any
    rest: Any


class Sums(NamedTuple):
    """Sums over the parts but m, with e = exp(nu - max(0, nu_m)) and d = sigma - sigma_m:

    others e; base R - 1 - log R + (mu - m)^2 / s^2, R = sigma^2 / s^2; trace e R; squares e^2 R (unit), e^2 / s^2
    (scaled); variances sigma^2; noise eps (unit), sigma eps (scaled); shifted d eps; shift e d. And over all parts:
    means mu; terms eps^2 + log sigma^2.
    """

    others: Any
    base: Any
    trace: Any
    squares: Any
    variances: Any
    noise: Any
    shifted: Any
    shift: Any
    means: Any
    terms: Any


@triton.jit
def reference_of(logit):
    return tl.where(logit < 0, 0.0, logit)


@triton.jit
def _choose(mask, a, b):
    return Part(tl.where(mask, a.logit, b.logit), tl.where(mask, a.logvar, b.logvar),
                tl.where(mask, a.logvar_p, b.logvar_p), tl.where(mask, a.difference, b.difference),
                tl.where(mask, a.eps, b.eps))


@triton.jit
def _choose_sums(mask, a, b):
    return Sums(tl.where(mask, a.others, b.others), tl.where(mask, a.base, b.base), tl.where(mask, a.trace, b.trace),
                tl.where(mask, a.squares, b.squares), tl.where(mask, a.variances, b.variances),
                tl.where(mask, a.noise, b.noise), tl.where(mask, a.shifted, b.shifted),
                tl.where(mask, a.shift, b.shift), tl.where(mask, a.means, b.means), tl.where(mask, a.terms, b.terms))


@triton.jit
def _inputs_of(inputs, place, part, end, there, KL: tl.constexpr, MEAN: tl.constexpr, T: tl.constexpr,
               BLOCK: tl.constexpr):
    """Rows mu_q, logvar_q, rho_logits, mu_p, logvar_p of a part, as far as they are needed; 0 beyond the end."""
    there = within(there, part, end, BLOCK)
    logvar = load_row(inputs[1], place, part, there, T, BLOCK)
    logit = load_row(inputs[2], place, part, there, T, BLOCK)
    mu, mu_p, logvar_p = logit, logit, logit
    if KL or MEAN:
        mu = load_row(inputs[0], place, part, there, T, BLOCK)
    if KL:
        mu_p = load_row(inputs[3], place, part, there, T, BLOCK)
        logvar_p = load_row(inputs[4], place, part, there, T, BLOCK)
    return mu, logvar, logit, mu_p, logvar_p


@triton.jit
def _chunk(sets, place, inputs, noise, call, part, end, there, UNIT: tl.constexpr, KL: tl.constexpr, DRAW: tl.constexpr,
           MEAN: tl.constexpr, DENSITY: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """m and the sums of parts [part, end), at most a chunk, in the compute type."""
    zero = tl.zeros([BLOCK], T)
    eps = zero
    mu, logvar, logit, mu_p, logvar_p = _inputs_of(inputs, place, part, end, there, KL, MEAN, T, BLOCK)
    if DRAW:
        eps = draw(noise[0], noise[1], noise[2] + part, call, T)
    m = Part(logit, logvar, logvar_p, mu - mu_p, eps)
    means, terms = mu, zero
    if DENSITY:
        terms = eps * eps + logvar
    others, base, trace, squares, variances, sum_, shifted, shift = zero, zero, zero, zero, zero, zero, zero, zero
    # d is taken from the chunk's first part while its m is not known
    first_logvar = logvar
    first_sigma = exp(0.5 * first_logvar)

    coming = _inputs_of(inputs, place, part + 1, end, there, KL, MEAN, T, BLOCK)
    for k in range(part + 1, end):
        mu, logvar, logit, mu_p, logvar_p = coming
        coming = _inputs_of(inputs, place, k + 1, end, there, KL, MEAN, T, BLOCK)
        if DRAW:
            eps = draw(noise[0], noise[1], noise[2] + k, call, T)
        new = Part(logit, logvar, logvar_p, mu - mu_p, eps)
        if MEAN:
            means += mu
        if DENSITY:
            terms += eps * eps + logvar

        larger = logit > m.logit
        before = reference_of(m.logit)
        loser = _choose(larger, m, new)
        m = _choose(larger, new, m)
        reference = reference_of(m.logit)
        rescale = exp(before - reference)
        e = exp(loser.logit - reference)
        others = others * rescale + e
        sigma = exp(0.5 * loser.logvar)
        if KL:
            x = loser.logvar - loser.logvar_p
            ratio = exp(x)
            precision = exp(-loser.logvar_p)
            base += exp_excess(x, ratio) + loser.difference * loser.difference * precision
            trace = trace * rescale + e * ratio
            if UNIT:
                squares = squares * (rescale * rescale) + e * e * ratio
            else:
                squares = squares * (rescale * rescale) + e * e * precision
                variances += sigma * sigma
        if DRAW:
            if UNIT:
                sum_ += loser.eps
                if MEAN:
                    d = first_sigma * expm1(0.5 * (loser.logvar - first_logvar))
                    shifted += d * loser.eps
                    shift = shift * rescale + e * d
            else:
                sum_ += sigma * loser.eps
    if UNIT and DRAW and MEAN:
        gap = first_sigma * expm1(0.5 * (m.logvar - first_logvar))
        shifted -= gap * sum_
        shift -= gap * others
    return m, Sums(others, base, trace, squares, variances, sum_, shifted, shift, means, terms)


@triton.jit
def _widened(s):
    return Sums(s.others.to(tl.float64), s.base.to(tl.float64), s.trace.to(tl.float64), s.squares.to(tl.float64),
                s.variances.to(tl.float64), s.noise.to(tl.float64), s.shifted.to(tl.float64), s.shift.to(tl.float64),
                s.means.to(tl.float64), s.terms.to(tl.float64))


@triton.jit
def _merge(m_a, a, m_b, b, UNIT: tl.constexpr, KL: tl.constexpr, DRAW: tl.constexpr, MEAN: tl.constexpr):
    """Two groups of parts as one: the m with the smaller logit joins the others. Sums in float64."""
    larger = m_b.logit > m_a.logit
    m, loser = _choose(larger, m_b, m_a), _choose(larger, m_a, m_b)
    reference = reference_of(m.logit)
    scale_a = exp(reference_of(m_a.logit) - reference).to(tl.float64)
    scale_b = exp(reference_of(m_b.logit) - reference).to(tl.float64)
    e = exp(loser.logit - reference).to(tl.float64)
    others_a, others_b = a.others * scale_a, b.others * scale_b
    base, trace, squares, variances = a.base, a.trace, a.squares, a.variances
    noise, shifted, shift = a.noise, a.shifted, a.shift
    sigma = exp(0.5 * loser.logvar)
    if KL:
        x = loser.logvar - loser.logvar_p
        ratio, precision = exp(x), exp(-loser.logvar_p)
        excess = exp_excess(x, ratio) + loser.difference * loser.difference * precision
        base = a.base + b.base + excess.to(tl.float64)
        trace = a.trace * scale_a + b.trace * scale_b + e * ratio.to(tl.float64)
        squares = a.squares * (scale_a * scale_a) + b.squares * (scale_b * scale_b)
        if UNIT:
            squares += e * e * ratio.to(tl.float64)
        else:
            squares += e * e * precision.to(tl.float64)
            variances = a.variances + b.variances + (sigma * sigma).to(tl.float64)
    if DRAW:
        own = loser.eps
        if not UNIT:
            own = sigma * loser.eps
        noise = a.noise + b.noise + own.to(tl.float64)
        if UNIT and MEAN:
            # what the loser's group, itself included, took from the loser's sigma it now takes from the winner's
            gap = (-sigma * expm1(0.5 * (m.logvar - loser.logvar))).to(tl.float64)
            gap_a, gap_b = tl.where(larger, gap, 0.0), tl.where(larger, 0.0, gap)
            shifted = a.shifted + gap_a * a.noise + b.shifted + gap_b * b.noise + gap * own.to(tl.float64)
            shift = (a.shift * scale_a + gap_a * others_a) + (b.shift * scale_b + gap_b * others_b) + gap * e
    return m, Sums(others_a + others_b + e, base, trace, squares, variances, noise, shifted, shift, a.means + b.means,
                   a.terms + b.terms)


@triton.jit
def sum_over(sets, place, inputs, call, there, ONE_CHUNK: tl.constexpr, UNIT: tl.constexpr, KL: tl.constexpr,
             DRAW: tl.constexpr, MEAN: tl.constexpr, DENSITY: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """m and the sums of the place's parts, sums in float64 where they may be more than a chunk."""
    noise = (place.set, place.set, place.set)
    if DRAW:
        noise = set_of_noise(sets, place)
    if ONE_CHUNK:
        return _chunk(sets, place, inputs, noise, call, place.first, place.end, there, UNIT, KL, DRAW, MEAN, DENSITY, T,
                      BLOCK)
    else:
        zero, wide = tl.zeros([BLOCK], T), tl.zeros([BLOCK], tl.float64)
        m = Part(zero, zero, zero, zero, zero)
        sums = Sums(wide, wide, wide, wide, wide, wide, wide, wide, wide, wide)
        # once at least, so that an empty set is no case of its own
        for part in range(place.first, tl.maximum(place.end, place.first + 1), CHUNK):
            m_b, chunk = _chunk(sets, place, inputs, noise, call, part, tl.minimum(part + CHUNK, place.end), there,
                                UNIT, KL, DRAW, MEAN, DENSITY, T, BLOCK)
            b = _widened(chunk)
            m_both, both = _merge(m, sums, m_b, b, UNIT, KL, DRAW, MEAN)
            first = tl.zeros([BLOCK], tl.int64) + part == place.first
            m, sums = _choose(first, m_b, m_both), _choose_sums(first, b, both)
        return m, sums


# What a segment leaves: rows of [segments, D] float64, those of Part and then those of Sums, as far as there are any.
PARTIAL = tl.constexpr(15)


@triton.constexpr_function
def row_of(i, unit, kl, draw, mean, density):
    """The row of the i-th number of Part and then of Sums; -1 where it is of no use."""
    shifted = draw and mean and unit
    used = (True, True, kl, kl, draw, True, kl, kl, kl, kl and not unit, draw, shifted, shifted, mean, density)
    return sum([1 if u else 0 for u in used[:i]]) if used[i] else -1


@triton.jit
def _partial_at(partial, sets, item, column, row: tl.constexpr, BLOCK: tl.constexpr):
    return partial + (item * PARTIAL + row) * sets.width + column + tl.arange(0, BLOCK)


@triton.jit
def store_partial(partial, sets, place, there, m, sums, UNIT: tl.constexpr, KL: tl.constexpr, DRAW: tl.constexpr,
                  MEAN: tl.constexpr, DENSITY: tl.constexpr, BLOCK: tl.constexpr):
    for i in tl.static_range(15):
        if row_of(i, UNIT, KL, DRAW, MEAN, DENSITY) >= 0:
            at = _partial_at(partial, sets, place.item, place.column, row_of(i, UNIT, KL, DRAW, MEAN, DENSITY), BLOCK)
            tl.store(at, m[i] if i < 5 else sums[i - 5], mask=there)


@triton.jit
def _load_partial(partial, sets, item, column, there, UNIT: tl.constexpr, KL: tl.constexpr, DRAW: tl.constexpr,
                  MEAN: tl.constexpr, DENSITY: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    v = ()
    for i in tl.static_range(15):
        if row_of(i, UNIT, KL, DRAW, MEAN, DENSITY) >= 0:
            at = _partial_at(partial, sets, item, column, row_of(i, UNIT, KL, DRAW, MEAN, DENSITY), BLOCK)
            v = v + (tl.load(at, mask=there, other=0.0),)
        else:
            v = v + (tl.zeros([BLOCK], tl.float64),)
    return (Part(v[0].to(T), v[1].to(T), v[2].to(T), v[3].to(T), v[4].to(T)),
            Sums(v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12], v[13], v[14]))


@triton.jit
def merge_partial(partial, sets, place, there, UNIT: tl.constexpr, KL: tl.constexpr, DRAW: tl.constexpr,
                  MEAN: tl.constexpr, DENSITY: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """m and the sums of a set out of what its segments left, in their order."""
    length = segment_length(place.end)
    first = first_segment(sets, place.set)
    m, sums = _load_partial(partial, sets, first, place.column, there, UNIT, KL, DRAW, MEAN, DENSITY, T, BLOCK)
    for item in range(first + 1, first + (place.end + length - 1) // length):
        m_b, b = _load_partial(partial, sets, item, place.column, there, UNIT, KL, DRAW, MEAN, DENSITY, T, BLOCK)
        m, sums = _merge(m, sums, m_b, b, UNIT, KL, DRAW, MEAN)
    return m, sums


# Rows of stats after the first three: LARGEST_LOGIT, INVERSE_Z, ONE_MINUS_RHO_M.


@triton.constexpr_function
def slots(unit, kl, draw):
    """(NOISE, NOISE_OTHERS, NOISE_FACTOR, LOGVAR_M, H, H_OTHERS, FACTOR_M or V, V_OTHERS, Q, Q_OTHERS)."""
    noise_others = 3 + (1 if draw and (unit or not kl) else 0)
    factor = noise_others + (1 if draw else 0)
    logvar_m = factor + (1 if draw and kl and unit else 0)
    h = logvar_m + 1 if draw else 3
    return 3, noise_others, factor, logvar_m, h, h + 1, h + 2, h + 3, h + 4, h + 5


@triton.jit
def _keep(stats, sets, place, there, slot: tl.constexpr, values, BLOCK: tl.constexpr):
    if stats is not None:
        tl.store(slot_at(stats, sets, place, slot, BLOCK), values, mask=there)


@triton.jit
def finish(sets, place, m, sums, there, w_sum, numbers, stats, UNIT: tl.constexpr, KL: tl.constexpr, DRAW: tl.constexpr,
           MEAN: tl.constexpr, DENSITY: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    """Writes w~, the KL and stats out of a set's sums; gives what who goes over the parts again needs, and each
    coordinate's L - 1/2 sum (eps^2 + log sigma^2)."""
    SLOTS: tl.constexpr = slots(UNIT, KL, DRAW)
    reference = reference_of(m.logit)
    one = exp(-reference)
    e_m = tl.where(place.size > 0, exp(m.logit - reference), 0.0)
    others = one + sums.others.to(T)
    z = others + e_m
    inverse_z = 1 / z
    rho_m, one_minus_rho = e_m * inverse_z, others * inverse_z
    rest = one * inverse_z  # 1 - sum rho = exp(-L)
    _keep(stats, sets, place, there, 0, m.logit, BLOCK)
    _keep(stats, sets, place, there, 1, inverse_z, BLOCK)
    _keep(stats, sets, place, there, 2, one_minus_rho, BLOCK)
    total, noise_others = rest, rest
    if KL and DRAW and UNIT:
        _keep(stats, sets, place, there, SLOTS[3], m.logvar, BLOCK)
    if DRAW:
        sigma_m = exp(0.5 * m.logvar)
        noise_others = sums.noise.to(T)
        total = noise_others + m.eps if UNIT else noise_others + sigma_m * m.eps
        factor = rest
        if UNIT and MEAN:
            factor = sigma_m * rest - sums.shift.to(T) * inverse_z
        if MEAN:
            of_sum = sums.shifted.to(T) + factor * total if UNIT else rest * total
            whole = sums.means.to(T) + of_sum
            store_vector(w_sum, place, there, tl.where(place.size > 0, whole, 0.0), BLOCK)
        _keep(stats, sets, place, there, SLOTS[0], total, BLOCK)
        if UNIT or not KL:
            _keep(stats, sets, place, there, SLOTS[1], noise_others, BLOCK)
        _keep(stats, sets, place, there, SLOTS[2], factor if KL else rest, BLOCK)
    log_normaliser = reference.to(tl.float64) + log(z).to(tl.float64)
    if KL:
        ratio_m, precision_m = exp(m.logvar - m.logvar_p), exp(-m.logvar_p)
        first = sums.trace.to(T) * inverse_z
        second = sums.squares.to(T) * inverse_z * inverse_z
        quadratic = m.difference * m.difference * precision_m
        if UNIT:
            parts = place.size.to(T)
            factor_m = one_minus_rho * one_minus_rho + (parts - 1) * rho_m * rho_m
            trace = parts * second - 2 * first
            of_m = factor_m * ratio_m + quadratic
            y_m = ratio_m * ((parts - 1) * rho_m - one_minus_rho)
            h_others = parts * second - first
            _keep(stats, sets, place, there, SLOTS[6], factor_m, BLOCK)
        else:
            variances_others = sums.variances.to(T)
            variances = variances_others + exp(m.logvar)
            trace = second * variances - 2 * first
            of_m = one_minus_rho * one_minus_rho * ratio_m + rho_m * rho_m * variances_others * precision_m + quadratic
            y_m = rho_m * variances_others * precision_m - one_minus_rho * ratio_m
            h_others = second * variances - first
            _keep(stats, sets, place, there, SLOTS[6], variances, BLOCK)
            _keep(stats, sets, place, there, SLOTS[7], variances_others, BLOCK)
            _keep(stats, sets, place, there, SLOTS[8], second + rho_m * rho_m * precision_m, BLOCK)
            _keep(stats, sets, place, there, SLOTS[9], second, BLOCK)
        _keep(stats, sets, place, there, SLOTS[4], rho_m * y_m + h_others, BLOCK)
        _keep(stats, sets, place, there, SLOTS[5], h_others, BLOCK)
        around = sums.base.to(tl.float64) + trace.to(tl.float64) + (of_m.to(tl.float64) - 1)
        kl = 0.5 * (around - (m.logvar.to(tl.float64) - m.logvar_p.to(tl.float64))) + log_normaliser
        store_groups(numbers, sets, place, place.set, tl.where(within(there, 0, place.size, BLOCK), kl, 0.0), BLOCK)
    density = log_normaliser
    if DENSITY:
        density = tl.where(within(there, 0, place.size, BLOCK), log_normaliser - 0.5 * sums.terms.to(tl.float64), 0.0)
    return WholeSet(reference, inverse_z, one_minus_rho, total, noise_others, rest), density
