"""diag_normal_kl by the compiled kernels."""

from compvae_fast.native._sum_of_terms import SumOfTerms

_functions = SumOfTerms("diag_normal_kl")
forward, backward = _functions.forward, _functions.backward
