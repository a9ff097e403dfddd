"""One shard of posterior_sum_and_kl by CUDA kernels."""

from compvae_fast.cuda import adapted

forward, backward = adapted("posterior_shard")
