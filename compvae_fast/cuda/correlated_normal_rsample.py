"""correlated_normal_rsample by CUDA kernels."""

from compvae_fast.cuda import adapted

forward, backward = adapted("correlated_normal_rsample")
