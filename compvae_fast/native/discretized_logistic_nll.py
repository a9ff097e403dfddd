"""discretized_logistic_nll by the compiled kernels."""

from compvae_fast.native._sum_of_terms import SumOfTerms

_functions = SumOfTerms("discretized_logistic_nll")
forward, backward = _functions.forward, _functions.backward
