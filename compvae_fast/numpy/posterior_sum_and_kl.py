"""The draw of the whole's latent and its KL divergence, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from compvae_fast.numpy._door import ArrayLike
from compvae_fast.numpy._native import Draw
from compvae_fast.numpy._posterior import checked, sum_and_number


def posterior_sum_and_kl(
    mu_q: ArrayLike,
    logvar_q: ArrayLike,
    rho_logits: ArrayLike,
    mu_p: ArrayLike,
    logvar_p: ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    coupling: str = "scaled",
    seed: int | None = None,
    set_index: ArrayLike | None = None,
    part_start: ArrayLike | None = None,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Draw w~ = sum_i w_i from the correlated posterior, with its KL to the prior of independent parts.

    `compvae_fast.ops.posterior_sum_and_kl` has the formulas.

    Args:
        mu_q, logvar_q, rho_logits: posterior means, log-variances and logits, each [B, K, D] or, with offsets, [N, D].
        mu_p, logvar_p: the prior's means and log-variances, of the same shape; one dtype, maybe another.
        offsets: [B + 1] int32 or int64: ragged sets.
        lengths: [B] int32 or int64: padded sets.
        coupling: "scaled" or "unit".
        seed, set_index [B], part_start [B]: of the noise.
        threads: how many to use.

    Returns:
        (w~ [B, D], kl [B] in nats), float64 for float64 mu_q, else float32.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.
    """
    inputs, offsets, lengths = checked(mu_q, logvar_q, rho_logits, mu_p, logvar_p, offsets, lengths, coupling)
    draw = Draw(seed, set_index, part_start)
    return sum_and_number("posterior_sum_and_kl", inputs, offsets, lengths, coupling, draw, threads)
