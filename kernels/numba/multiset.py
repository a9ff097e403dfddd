"""The sums over a multiset that the correlated Gaussian needs, in one pass over the inputs.

The part m with the largest logit is kept out of the running sums: only it can have rho > 1/2, and there
1 - 2 rho + K rho^2, eps - rho E and the trace would cancel. Sums run over chunks of CHUNK parts in the compute type and
are joined in float64; where a chunk brings a larger logit, the old m joins the others and the sums are rescaled.
Notation: e_i = exp(nu_i - ref), ref = max(0, nu_m), d_i = sigma_i - sigma_m, R_i = sigma_i^2 / s_i^2.

Choices, the same everywhere: unit (the coupling), kl (the terms of the KL), draw (noise), mean (w~ is wanted),
density (the terms of log q are wanted).
"""

from __future__ import annotations

from typing import NamedTuple

from compvae_fast.kernels.numba.compiling import inlined, plain
from compvae_fast.kernels.numba.elementary import exp, exp_excess, expm1, log
from compvae_fast.kernels.numba.memory import load, load_float64, store
from compvae_fast.kernels.numba.normals import draw_rows
from compvae_fast.kernels.numba.places import (
    CHUNK,
    INPUTS,
    NOISE,
    ROW,
    SMALL,
    ahead,
    clear_rows,
    row_at,
    stage_input,
    write_float64_row,
)
from compvae_fast.kernels.numba.rows import Tensor, tensor
from compvae_fast.kernels.numba.vectors import (
    any_of,
    count_of,
    lane_numbers,
    select,
    size_of,
    splat,
    to_float64,
    to_kind,
    total,
    zero,
)


class Posterior(NamedTuple):
    """Tensors of parts, or their gradients."""

    mu_q: Tensor
    logvar_q: Tensor
    rho_logits: Tensor
    mu_p: Tensor
    logvar_p: Tensor


def posterior(descriptions) -> Posterior:
    """What the adapters say of up to five tensors; those that are missing are absent."""
    return Posterior(*map(tensor, (*descriptions, *[None] * (5 - len(descriptions)))))


# Rows of float64 sums over the parts but m (means and densities: over all), and the rows that tell of m.
_OTHERS, _BASE, _TRACE, _SQUARES, _VARIANCES, _NOISE, _SHIFTED_NOISE, _SHIFT, _MEANS, _DENSITIES = (
    SMALL + s * ROW for s in range(10))
_LOGIT, _LOGVAR_Q, _LOGVAR_P, _DIFFERENCE, _NORMAL = (SMALL + s * ROW for s in range(10, 15))
W_SUM = SMALL + 15 * ROW  # w~
STATS = SMALL + 16 * ROW
FREE = SMALL + 32 * ROW  # for the operations' own rows

# Rows of stats [COUNT, B, D], in the compute type, in the order of csrc/common/stats.h.
LARGEST_LOGIT = 0
INVERSE_Z = 1  # rho_i = e_i * this
ONE_MINUS_RHO_M = 2  # from the other logits
# With kl and draw. Unit: E, E - eps_m, sigma_m - sum rho sigma, log sigma_m^2. Scaled: T, 1 - sum rho.
UNIT_NOISE, UNIT_NOISE_OTHERS, UNIT_NOISE_FACTOR, UNIT_LOGVAR_M = 3, 4, 5, 6
SCALED_NOISE, SCALED_NOISE_FACTOR = 3, 4
# With kl, from `kl_rows` on: sum_j rho_j y_j, y_j = R_j (K rho_j - 1) (unit) or rho_j V / s_j^2 - R_j (scaled), with
# and without m.
H, H_OTHERS = 0, 1
FACTOR_M = 2  # unit: (1 - rho_m)^2 + (K - 1) rho_m^2
V, V_OTHERS, Q, Q_OTHERS = 2, 3, 4, 5  # scaled: sum sigma^2 and sum rho^2 / s^2, with and without m
# With draw alone. Unit: E, E - eps_m, 1 - sum rho. Scaled: T, T - sigma_m eps_m, 1 - sum rho.
PART_NOISE, PART_NOISE_OTHERS, PART_REST_OF_RHO = 3, 4, 5
PART_COUNT = 6


@inlined
def kl_rows(unit, draw):
    """The first of the rows of stats that the KL needs."""
    if draw:
        return 7 if unit else 5
    return 3


@inlined
def kl_count(unit, draw):
    """How many rows of stats there are with kl."""
    return kl_rows(unit, draw) + (3 if unit else 6)


@plain
def sum_set(kind, unit, kl, draw, mean, density, sets, place, given):
    """Runs over the parts of a place; `given`: Posterior. The last chunk's noise is left in the place's memory."""
    clear_rows(kind, place.memory + SMALL, 15)
    for part in range(0, place.size, CHUNK):
        n = min(CHUNK, place.size - part)
        logits = stage_input(kind, place, given.rho_logits, place.memory + INPUTS[0], part, n)
        logvar_q = stage_input(kind, place, given.logvar_q, place.memory + INPUTS[1], part, n)
        mu_q, mu_p, logvar_p = logits, logits, logits
        if kl or mean:
            mu_q = stage_input(kind, place, given.mu_q, place.memory + INPUTS[2], part, n)
        if kl:
            mu_p = stage_input(kind, place, given.mu_p, place.memory + INPUTS[3], part, n)
            logvar_p = stage_input(kind, place, given.logvar_p, place.memory + INPUTS[4], part, n)
        if draw:
            draw_rows(kind, sets, place, part, n)
        for column in range(0, place.width, count_of(kind)):
            _add_chunk(kind, unit, kl, draw, mean, density, place.memory, column, n, part == 0, mu_q, logvar_q, logits,
                       mu_p, logvar_p)


@inlined
def _add(kind, address, sums):
    store(address, load_float64(kind, address) + to_float64(sums))


@plain
def _add_chunk(kind, unit, kl, draw, mean, density, memory, column, n, is_first, mu_q, logvar_q, logits, mu_p,
               logvar_p):
    at, sums, noise = column * size_of(kind), memory + 8 * column, memory + NOISE + column * size_of(kind)
    none = zero(kind)
    old_logit, old_logvar = load(kind, memory + _LOGIT + at), load(kind, memory + _LOGVAR_Q + at)
    logit, logvar_m, where = old_logit, old_logvar, splat(kind, -1)
    if is_first:
        logit, logvar_m, where = load(kind, row_at(logits, 0) + at), load(kind, row_at(logvar_q, 0) + at), none
    for k in range(n):
        nu = load(kind, row_at(logits, k) + at)
        larger = nu > logit
        logit = select(larger, nu, logit)
        where = select(larger, k, where)
        logvar_m = select(larger, load(kind, row_at(logvar_q, k) + at), logvar_m)
    ref = select(logit < 0.0, 0.0, logit)
    sigma_m = exp(logvar_m * 0.5)

    others, base, trace, squares, variances = none, none, none, none, none
    noise_sum, shifted_noise, shift, means, densities = none, none, none, none, none
    logvar_p_m, difference_m, normal_m = none, none, none
    for k in range(n):
        is_m = where == k
        ahead(kind, row_at(logits, k) + at)
        ahead(kind, row_at(logvar_q, k) + at)
        lv = load(kind, row_at(logvar_q, k) + at)
        e = select(is_m, 0.0, exp(load(kind, row_at(logits, k) + at) - ref))
        others += e
        if kl or mean:
            ahead(kind, row_at(mu_q, k) + at)
        sigma = none
        if draw and not unit:
            sigma = exp(lv * 0.5)
        if kl:
            ahead(kind, row_at(mu_p, k) + at)
            ahead(kind, row_at(logvar_p, k) + at)
            lv_p = load(kind, row_at(logvar_p, k) + at)
            difference = load(kind, row_at(mu_q, k) + at) - load(kind, row_at(mu_p, k) + at)
            x = lv - lv_p
            ratio, precision = exp(x), exp(-lv_p)
            base += select(is_m, 0.0, exp_excess(x, ratio) + difference * difference * precision)
            trace += e * ratio
            if unit:
                squares += e * e * ratio
            else:
                variance = sigma * sigma
                if not draw:
                    variance = exp(lv)
                variances += select(is_m, 0.0, variance)
                squares += e * e * precision
            logvar_p_m = select(is_m, lv_p, logvar_p_m)
            difference_m = select(is_m, difference, difference_m)
        if mean:
            means += load(kind, row_at(mu_q, k) + at)
        if draw:
            eps = load(kind, noise + k * ROW)
            normal_m = select(is_m, eps, normal_m)
            if unit:
                noise_sum += select(is_m, 0.0, eps)
                if mean:
                    d = sigma_m * expm1((lv - logvar_m) * 0.5)
                    shifted_noise += d * eps
                    shift += e * d
            else:
                noise_sum += select(is_m, 0.0, sigma * eps)
            if density:
                densities += eps * eps + lv

    changed = where >= 0.0
    if not is_first and any_of(changed):
        _join_old_m(kind, unit, kl, draw, mean, memory, column, changed, logit, logvar_m, ref)

    _add(kind, sums + _OTHERS, others)
    if kl:
        _add(kind, sums + _BASE, base)
        _add(kind, sums + _TRACE, trace)
        _add(kind, sums + _SQUARES, squares)
        if not unit:
            _add(kind, sums + _VARIANCES, variances)
        store(memory + _LOGVAR_P + at, select(changed, logvar_p_m, load(kind, memory + _LOGVAR_P + at)))
        store(memory + _DIFFERENCE + at, select(changed, difference_m, load(kind, memory + _DIFFERENCE + at)))
    if draw:
        _add(kind, sums + _NOISE, noise_sum)
        _add(kind, sums + _SHIFTED_NOISE, shifted_noise)
        _add(kind, sums + _SHIFT, shift)
        store(memory + _NORMAL + at, select(changed, normal_m, load(kind, memory + _NORMAL + at)))
    if mean:
        _add(kind, sums + _MEANS, means)
    if density:
        _add(kind, sums + _DENSITIES, densities)
    store(memory + _LOGIT + at, logit)
    store(memory + _LOGVAR_Q + at, logvar_m)


@plain
def _join_old_m(kind, unit, kl, draw, mean, memory, column, changed, logit, logvar_m, ref):
    """Where a chunk has a larger logit, the old m joins the others, whose sums are rescaled to the new reference."""
    at, sums = column * size_of(kind), memory + 8 * column
    old_logit, old_logvar = load(kind, memory + _LOGIT + at), load(kind, memory + _LOGVAR_Q + at)
    rescale = to_float64(exp(select(old_logit < 0.0, 0.0, old_logit) - ref))
    e = to_float64(select(changed, exp(old_logit - ref), 0.0))
    others = load_float64(kind, sums + _OTHERS) * rescale + e
    if draw:
        noise_m, noise_sum = load(kind, memory + _NORMAL + at), load_float64(kind, sums + _NOISE)
        if not unit:
            noise_m = noise_m * exp(old_logvar * 0.5)
        elif mean:
            shift = to_float64(select(changed, -exp(old_logvar * 0.5) * expm1((logvar_m - old_logvar) * 0.5), 0.0))
            _add(kind, sums + _SHIFTED_NOISE, shift * (noise_sum + to_float64(noise_m)))
            store(sums + _SHIFT, load_float64(kind, sums + _SHIFT) * rescale + shift * others)
        store(sums + _NOISE, noise_sum + to_float64(select(changed, noise_m, 0.0)))
    if kl:
        lv_p, difference = load(kind, memory + _LOGVAR_P + at), load(kind, memory + _DIFFERENCE + at)
        x = old_logvar - lv_p
        ratio, precision = exp(x), exp(-lv_p)
        _add(kind, sums + _BASE, select(changed, exp_excess(x, ratio) + difference * difference * precision, 0.0))
        _add(kind, sums + _VARIANCES, select(changed, exp(old_logvar), 0.0))
        store(sums + _TRACE, load_float64(kind, sums + _TRACE) * rescale + e * to_float64(ratio))
        weight = ratio
        if not unit:
            weight = precision
        store(sums + _SQUARES,
              load_float64(kind, sums + _SQUARES) * (rescale * rescale) + e * e * to_float64(weight))
    store(sums + _OTHERS, others)


@plain
def finish_set(kind, unit, kl, draw, mean, density, place):
    """From the sums: stats and w~, rows of the place's memory; returns the KL, or with density the terms of log q."""
    result = 0.0
    for column in range(0, place.width, count_of(kind)):
        result += _finish_column(kind, unit, kl, draw, mean, density, place, column)
    return result


@plain
def _finish_column(kind, unit, kl, draw, mean, density, place, column):
    memory, at, sums = place.memory, column * size_of(kind), place.memory + 8 * column
    logit, logvar_m = load(kind, memory + _LOGIT + at), load(kind, memory + _LOGVAR_Q + at)
    ref = select(logit < 0.0, 0.0, logit)
    one, e_m = exp(-ref), zero(kind)
    if place.size > 0:
        e_m = exp(logit - ref)
    others = one + to_kind(kind, load_float64(kind, sums + _OTHERS))
    z = others + e_m
    inverse_z = 1.0 / z
    rho_m, one_minus_rho = e_m * inverse_z, others * inverse_z
    rest = one * inverse_z  # 1 - sum rho = exp(-L)
    store(memory + STATS + LARGEST_LOGIT * ROW + at, logit)
    store(memory + STATS + INVERSE_Z * ROW + at, inverse_z)
    store(memory + STATS + ONE_MINUS_RHO_M * ROW + at, one_minus_rho)
    if draw:
        _finish_noise(kind, unit, kl, mean, memory, column, logvar_m, inverse_z, rest)
    terms = to_float64(ref) + to_float64(log(z))
    if kl:
        terms += _finish_kl(kind, unit, draw, memory, column, place.size, logvar_m, inverse_z, rho_m, one_minus_rho)
    if density:
        terms -= 0.5 * load_float64(kind, sums + _DENSITIES)
    if place.size == 0:
        return 0.0
    return float(total(select(lane_numbers(kind) < place.width - column, terms, 0.0)))


@plain
def _finish_noise(kind, unit, kl, mean, memory, column, logvar_m, inverse_z, rest):
    at, sums = column * size_of(kind), memory + 8 * column
    sigma_m, normal_m = exp(logvar_m * 0.5), load(kind, memory + _NORMAL + at)
    noise_others = to_kind(kind, load_float64(kind, sums + _NOISE))
    if unit:
        noise = noise_others + normal_m
    else:
        noise = noise_others + sigma_m * normal_m
    factor = rest
    if unit and mean:
        factor = sigma_m * rest - to_kind(kind, load_float64(kind, sums + _SHIFT)) * inverse_z
    if mean:
        w_sum = to_kind(kind, load_float64(kind, sums + _MEANS))
        if unit:
            w_sum += to_kind(kind, load_float64(kind, sums + _SHIFTED_NOISE)) + factor * noise
        else:
            w_sum += rest * noise
        store(memory + W_SUM + at, w_sum)
    if not kl:
        store(memory + STATS + PART_NOISE * ROW + at, noise)
        store(memory + STATS + PART_NOISE_OTHERS * ROW + at, noise_others)
        store(memory + STATS + PART_REST_OF_RHO * ROW + at, rest)
    elif unit:
        store(memory + STATS + UNIT_NOISE * ROW + at, noise)
        store(memory + STATS + UNIT_NOISE_OTHERS * ROW + at, noise_others)
        store(memory + STATS + UNIT_NOISE_FACTOR * ROW + at, factor)
        store(memory + STATS + UNIT_LOGVAR_M * ROW + at, logvar_m)
    else:
        store(memory + STATS + SCALED_NOISE * ROW + at, noise)
        store(memory + STATS + SCALED_NOISE_FACTOR * ROW + at, factor)


@plain
def _finish_kl(kind, unit, draw, memory, column, size, logvar_m, inverse_z, rho_m, one_minus_rho):
    """The KL of each coordinate but for L, in float64."""
    at, sums = column * size_of(kind), memory + 8 * column
    stats = memory + STATS + kl_rows(unit, draw) * ROW + at
    lv_p, difference = load(kind, memory + _LOGVAR_P + at), load(kind, memory + _DIFFERENCE + at)
    ratio_m, precision_m = exp(logvar_m - lv_p), exp(-lv_p)
    first = to_kind(kind, load_float64(kind, sums + _TRACE)) * inverse_z
    second = to_kind(kind, load_float64(kind, sums + _SQUARES)) * inverse_z * inverse_z
    quadratic = difference * difference * precision_m
    if unit:
        factor_m = one_minus_rho * one_minus_rho + (size - 1) * rho_m * rho_m
        trace = size * second - 2.0 * first
        of_m = factor_m * ratio_m + quadratic
        y_m = ratio_m * ((size - 1) * rho_m - one_minus_rho)
        h_others = size * second - first
        store(stats + FACTOR_M * ROW, factor_m)
    else:
        v_others = to_kind(kind, load_float64(kind, sums + _VARIANCES))
        v = v_others + exp(logvar_m)
        trace = second * v - 2.0 * first
        of_m = one_minus_rho * one_minus_rho * ratio_m + rho_m * rho_m * v_others * precision_m + quadratic
        y_m = rho_m * v_others * precision_m - one_minus_rho * ratio_m
        h_others = second * v - first
        store(stats + V * ROW, v)
        store(stats + V_OTHERS * ROW, v_others)
        store(stats + Q * ROW, second + rho_m * rho_m * precision_m)
        store(stats + Q_OTHERS * ROW, second)
    store(stats + H * ROW, rho_m * y_m + h_others)
    store(stats + H_OTHERS * ROW, h_others)
    return 0.5 * (load_float64(kind, sums + _BASE) + to_float64(trace) + (to_float64(of_m) - 1.0)
                  - (to_float64(logvar_m) - to_float64(lv_p)))


@plain
def write_state(kind, unit, kl, mean, density, sets, place, state):
    """What a set's shard adds to the joint sums, after sum_set with draw: rows of state [.., B, D], float64, of m and
    then of the sums, as csrc/cpu/multiset.h orders them."""
    row = _write_row_of_m(kind, sets, place, state, 0, _LOGIT)
    row = _write_row_of_m(kind, sets, place, state, row, _LOGVAR_Q)
    if kl:
        row = _write_row_of_m(kind, sets, place, state, row, _LOGVAR_P)
        row = _write_row_of_m(kind, sets, place, state, row, _DIFFERENCE)
    row = _write_row_of_m(kind, sets, place, state, row, _NORMAL)
    row = _write_row(sets, place, state, row, _OTHERS)
    if kl:
        row = _write_row(sets, place, state, row, _BASE)
        row = _write_row(sets, place, state, row, _TRACE)
        row = _write_row(sets, place, state, row, _SQUARES)
        if not unit:
            row = _write_row(sets, place, state, row, _VARIANCES)
    row = _write_row(sets, place, state, row, _NOISE)
    if mean:
        if unit:
            row = _write_row(sets, place, state, row, _SHIFTED_NOISE)
            row = _write_row(sets, place, state, row, _SHIFT)
        row = _write_row(sets, place, state, row, _MEANS)
    if density:
        _write_row(sets, place, state, row, _DENSITIES)


@plain
def _write_row_of_m(kind, sets, place, state, row, which):
    for column in range(0, place.width, count_of(kind)):
        store(place.memory + FREE + 8 * column,
              to_float64(load(kind, place.memory + which + column * size_of(kind))))
    return _write_row(sets, place, state, row, FREE)


@plain
def _write_row(sets, place, state, row, which):
    write_float64_row(sets, place, state, row, place.memory + which)
    return row + 1
