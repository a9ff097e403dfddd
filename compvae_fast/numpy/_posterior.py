"""What the draws and divergences of the correlated posterior share."""

from __future__ import annotations

import numpy as np

from compvae_fast import _rules
from compvae_fast.numpy import _door, _native
from compvae_fast.numpy._native import POSTERIOR, PRIOR


def checked(mu_q, logvar_q, rho_logits, mu_p, logvar_p, offsets, lengths, coupling: str):
    """The five arrays, offsets and lengths, checked."""
    arrays = _door.arrays(mu_q=mu_q, logvar_q=logvar_q, rho_logits=rho_logits, mu_p=mu_p, logvar_p=logvar_p)
    offsets, lengths = _door.optional("offsets", offsets), _door.optional("lengths", lengths)
    _native.parts_of_sets(arrays, offsets, lengths, POSTERIOR, PRIOR)
    _rules.coupling(coupling)
    return [_native.strided(x) for x in arrays.values()], offsets, lengths


def sum_and_number(
    operation: str, inputs, offsets, lengths, coupling: str, draw: _native.Draw, threads: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """An operation that gives w~ [B, D] and one number for each set."""
    sets = _native.Sets.of(inputs[0], offsets, lengths, draw, threads)
    wide = _native.wide(inputs[0])
    w_sum, number = np.empty((sets.count, sets.width), wide), np.empty(sets.count, wide)
    getattr(_native.library(), operation + "_forward")(
        sets.arguments, tuple(map(_native.rows, inputs)), _native.per_set(w_sum), _native.per_set(number), 0,
        coupling == "scaled", _native.computes_float64(inputs[0], inputs[3]))
    return w_sum, number
