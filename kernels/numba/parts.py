"""The noise of single parts, w_i - mu_i, once the sums over the set are known; and the gradient of anything that is a
function of the parts. Only a part with rho > 1/2 needs the forms that keep it apart; it is m, the one with the largest
logit."""

from __future__ import annotations

from typing import NamedTuple

from compvae_fast.kernels.numba.compiling import inlined, plain
from compvae_fast.kernels.numba.elementary import exp
from compvae_fast.kernels.numba.memory import load, load_float64, store
from compvae_fast.kernels.numba.multiset import (
    FREE,
    INVERSE_Z,
    LARGEST_LOGIT,
    ONE_MINUS_RHO_M,
    PART_NOISE,
    PART_NOISE_OTHERS,
    PART_REST_OF_RHO,
    STATS,
)
from compvae_fast.kernels.numba.places import OUTPUTS, ROW, clear_rows, read_float64_row, write_float64_row
from compvae_fast.kernels.numba.vectors import count_of, select, size_of, to_float64, to_kind, zero


class Column(NamedTuple):
    """Vectors of one column of a set's sums, as the operations on parts keep them."""

    ref: object
    inverse_z: object
    one_minus_rho_m: object
    noise: object
    noise_others: object
    rest_of_rho: object


@inlined
def column_of(kind, memory, at):
    """The column at so many bytes of the rows of stats in working memory."""
    stats = memory + STATS + at
    logit = load(kind, stats + LARGEST_LOGIT * ROW)
    return Column(select(logit < 0.0, 0.0, logit), load(kind, stats + INVERSE_Z * ROW),
                  load(kind, stats + ONE_MINUS_RHO_M * ROW), load(kind, stats + PART_NOISE * ROW),
                  load(kind, stats + PART_NOISE_OTHERS * ROW), load(kind, stats + PART_REST_OF_RHO * ROW))


@inlined
def rho_of(column, logit):
    return exp(logit - column.ref) * column.inverse_z


@inlined
def noise_of_part(unit, column, rho, sigma, eps):
    """w_i - mu_i."""
    is_m = rho > 0.5
    own = select(is_m, column.one_minus_rho_m * eps, eps)
    others = rho * select(is_m, column.noise_others, column.noise)
    if unit:
        return sigma * (own - others)
    return sigma * own - others


# a_i - sum_j rho_j a_j over a set, where a_i is the upstream gradient of w_i (scaled) or sigma_i times that (unit). It
# is taken relative to a_r, r being the part with the largest rho, where sum rho >= 1/2:
#     (a_i - a_r) + a_r (1 - sum rho) - sum_j rho_j (a_j - a_r),
# so that nothing cancels where all a are nearly the same. Where sum rho is less, nothing does, and a_r could be large.
_REFERENCE = FREE  # a_r, in the compute type
_SUM = FREE + ROW  # float64, as the next
_RHOS = FREE + 2 * ROW
_LARGEST = FREE + 3 * ROW  # rho_r, in the compute type
CENTRED_END = FREE + 4 * ROW
# Where `rho` and `a` of the parts of a chunk are left for centre_chunk, rows of working memory.
RHO_ROWS, A_ROWS = OUTPUTS[0], OUTPUTS[1]


@plain
def clear_centred(kind, memory):
    clear_rows(kind, memory + _REFERENCE, 4)


@plain
def centre_chunk(kind, memory, column, n):
    """Adds n parts."""
    at, sums = column * size_of(kind), memory + 8 * column
    rhos_of, a_of = memory + RHO_ROWS + at, memory + A_ROWS + at
    old, largest = load(kind, memory + _REFERENCE + at), load(kind, memory + _LARGEST + at)
    reference = old
    for k in range(n):
        rho = load(kind, rhos_of + k * ROW)
        is_larger = rho > largest
        reference = select(is_larger, load(kind, a_of + k * ROW), reference)
        largest = select(is_larger, rho, largest)
    sum_, rhos = zero(kind), zero(kind)
    for k in range(n):
        rho = load(kind, rhos_of + k * ROW)
        sum_ += rho * (load(kind, a_of + k * ROW) - reference)
        rhos += rho
    before = load_float64(kind, sums + _RHOS)
    moved = (to_float64(old) - to_float64(reference)) * before
    store(sums + _SUM, load_float64(kind, sums + _SUM) + moved + to_float64(sum_))
    store(sums + _RHOS, before + to_float64(rhos))
    store(memory + _REFERENCE + at, reference)
    store(memory + _LARGEST + at, largest)


@plain
def settle(kind, place):
    """After the last part."""
    for column in range(0, place.width, count_of(kind)):
        at, sums = place.memory + _REFERENCE + column * size_of(kind), place.memory + 8 * column
        reference, rhos = load(kind, at), load_float64(kind, sums + _RHOS)
        is_little = to_kind(kind, rhos) < 0.5
        dropped = select(is_little, reference, zero(kind))
        store(sums + _SUM, load_float64(kind, sums + _SUM) + to_float64(dropped) * rhos)
        store(at, select(is_little, zero(kind), reference))


@plain
def write_centre(kind, sets, place, rows):
    """The sums over a shard as rows [3, B, D]: a_r, sum_j rho_j (a_j - a_r), sum rho."""
    for column in range(0, place.width, count_of(kind)):
        reference = load(kind, place.memory + _REFERENCE + column * size_of(kind))
        store(place.memory + CENTRED_END + 8 * column, to_float64(reference))
    write_float64_row(sets, place, rows, 0, place.memory + CENTRED_END)
    write_float64_row(sets, place, rows, 1, place.memory + _SUM)
    write_float64_row(sets, place, rows, 2, place.memory + _RHOS)


@plain
def read_centre(kind, sets, place, rows):
    """Those over the whole set, the first two rows."""
    clear_rows(kind, place.memory + CENTRED_END, 1)
    read_float64_row(sets, place, rows, 0, place.memory + CENTRED_END)
    read_float64_row(sets, place, rows, 1, place.memory + _SUM)
    for column in range(0, place.width, count_of(kind)):
        reference = to_kind(kind, load_float64(kind, place.memory + CENTRED_END + 8 * column))
        store(place.memory + _REFERENCE + column * size_of(kind), reference)


@inlined
def centring(kind, memory, column, rest_of_rho):
    """a_r, and what to add to a_i - a_r, given 1 - sum rho."""
    reference = load(kind, memory + _REFERENCE + column * size_of(kind))
    sum_ = to_kind(kind, load_float64(kind, memory + _SUM + 8 * column))
    return reference, reference * rest_of_rho - sum_
