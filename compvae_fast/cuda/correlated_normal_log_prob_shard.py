"""One shard of correlated_normal_log_prob by CUDA kernels."""

from compvae_fast.cuda import adapted

sums, squares, backward = adapted("correlated_normal_log_prob_shard", "sums", "squares", "backward")
