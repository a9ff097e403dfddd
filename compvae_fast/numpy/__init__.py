"""The operations, forward only, on NumPy arrays and on whatever offers DLPack; without torch.

Each function is `compvae_fast.ops`' of the same name, with NumPy arrays in and out: the same checks and messages, the
same noise, and the same bits as torch's `cpu` backend, whose native code it drives. There is no other backend here.

Arrays are NumPy's or offer the DLPack protocol (torch, JAX, CuPy's host arrays, ...) in CPU memory, of any strides;
float32, float64, float16, or bfloat16 (`ml_dtypes.bfloat16`, for which ml_dtypes must be installed). `seed` is None
(drawn from NumPy's global generator, so that numpy.random.seed rules) or an int, taken modulo 2^64. `threads` is the
number of threads to use, by default OMP_NUM_THREADS, else one for each processor.

>>> import numpy as np
>>> from compvae_fast import numpy as cnp
>>> mu, logvar, logits = np.zeros((3, 2, 4, 8), np.float32)
>>> w_sum, kl = cnp.posterior_sum_and_kl(mu, logvar, logits, mu, logvar, seed=1)
>>> w_sum.shape, kl.shape
((2, 8), (2,))
"""

from compvae_fast.numpy.correlated_normal_log_prob import correlated_normal_log_prob
from compvae_fast.numpy.correlated_normal_rsample import correlated_normal_rsample
from compvae_fast.numpy.diag_normal_kl import diag_normal_kl
from compvae_fast.numpy.discretized_logistic_nll import discretized_logistic_nll
from compvae_fast.numpy.gaussian_nll import gaussian_nll
from compvae_fast.numpy.multiset_kl import multiset_kl
from compvae_fast.numpy.posterior_sum_and_kl import posterior_sum_and_kl
from compvae_fast.numpy.posterior_sum_and_log_ratio import posterior_sum_and_log_ratio
from compvae_fast.numpy.prior_sum import prior_sum
from compvae_fast.numpy.product_of_experts import product_of_experts
from compvae_fast.numpy.sum_minus_self import sum_minus_self

__all__ = [
    "correlated_normal_log_prob",
    "correlated_normal_rsample",
    "diag_normal_kl",
    "discretized_logistic_nll",
    "gaussian_nll",
    "multiset_kl",
    "posterior_sum_and_kl",
    "posterior_sum_and_log_ratio",
    "prior_sum",
    "product_of_experts",
    "sum_minus_self",
]
