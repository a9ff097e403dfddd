"""One shard of correlated_normal_rsample by CUDA kernels."""

from compvae_fast.cuda import adapted

sums, sample, centre, backward = adapted("correlated_normal_rsample_shard", "sums", "sample", "centre", "backward")
