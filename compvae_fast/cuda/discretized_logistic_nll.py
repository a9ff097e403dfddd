"""discretized_logistic_nll by CUDA kernels."""

from compvae_fast.cuda import adapted

forward, backward = adapted("discretized_logistic_nll")
