"""Sharded operations against the same on whole sets: values, gradients, bytes sent, and what is refused."""

import emulation
import pytest

from compvae_fast import backends

POSTERIOR = ["mu_q", "logvar_q", "rho_logits", "mu_p", "logvar_p"]
PARTS = ["mu", "logvar", "rho_logits"]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("coupling", ["unit", "scaled"])
def test_posterior_sum_and_kl(pool, ranks, coupling):
    for backend in (None, "reference"):
        for dtype, extreme in (("float64", False), ("float64", True), ("float32", False), ("bfloat16", False)):
            pool.run("distributed.checks:compare", operation="posterior_sum_and_kl", names=POSTERIOR, ranks=ranks,
                     coupling=coupling, dtype=dtype, extreme=extreme, backend=backend)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "operation, names, options",
    [
        ("correlated_normal_rsample", PARTS, {"coupling": "unit", "with_log_prob": True}),
        ("correlated_normal_rsample", PARTS, {"coupling": "scaled", "with_log_prob": True}),
        ("correlated_normal_rsample", PARTS, {"coupling": "scaled", "extreme": True}),
        ("correlated_normal_rsample", PARTS, {"coupling": "unit", "extreme": True}),
        ("correlated_normal_rsample", PARTS, {"dtype": "float32"}),
        ("correlated_normal_log_prob", ["w", *PARTS], {"coupling": "unit"}),
        ("correlated_normal_log_prob", ["w", *PARTS], {"coupling": "scaled"}),
        ("sum_minus_self", ["h"], {"post": "tanh", "reduce": "mean"}),
        ("sum_minus_self", ["h"], {"pre": "elu", "dtype": "float32"}),
        ("sum_minus_self", ["h"], {"dtype": "bfloat16"}),
        ("correlated_normal_rsample", PARTS, {"coupling": "scaled", "with_log_prob": True, "negated": True}),
        ("correlated_normal_log_prob", ["w", *PARTS], {"coupling": "unit", "negated": True}),
        ("sum_minus_self", ["h"], {"pre": "elu", "negated": True}),
        ("posterior_sum_and_kl", POSTERIOR, {"coupling": "scaled", "negated": True}),
    ],
)
def test_operations_on_parts(pool, ranks, operation, names, options):
    pool.run("distributed.checks:compare", operation=operation, names=names, ranks=ranks, **options)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("coupling", ["unit", "scaled"])
def test_parts_by_the_definition(pool, ranks, coupling):
    for operation, names, options in (("correlated_normal_rsample", PARTS, {"with_log_prob": True}),
                                      ("correlated_normal_log_prob", ["w", *PARTS], {})):
        pool.run("distributed.checks:compare", operation=operation, names=names, ranks=ranks, coupling=coupling,
                 backend="reference", **options)


@pytest.mark.parametrize("coupling", ["unit", "scaled"])
def test_float32_keeps_the_promised_digits(pool, coupling):
    """Where the largest logit is on one rank, and most of what it outweighs on others; L up to 80."""
    for largest in (0.0, 10.0, 80.0):
        pool.run("distributed.checks:keeps_the_promised_digits", ranks=3, coupling=coupling, largest=largest)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("check", ["layouts", "prior_sums", "blocks"])
def test_layouts_tables_and_blocks(pool, check, ranks):
    pool.run(f"distributed.checks:{check}", ranks=ranks)


def test_dtensors(pool):
    pool.run("distributed.checks:dtensors", size=pool.size)


def test_bytes_do_not_grow_with_the_parts(pool):
    """B = 2, D = 64: the posterior sends 12 rows of float64; sums 1 row each way; parts 5 rows and 3 rows back."""
    sent = pool.run("distributed.checks:bytes_sent")[0]
    few, many = sent[:3], sent[3:]
    row, header = 2 * 64 * 8, 16 * 8
    assert few == many
    assert few == [12 * row + header, 2 * row + header, 8 * row + header]


def test_ranks_that_disagree_are_all_told(pool):
    told = pool.run("distributed.checks:disagreements")
    for name, mine, theirs in zip(("D", "number of sets", "dtype", "seed", "coupling", "set_index"), *told[:2]):
        assert mine == theirs and f"posterior_sum_and_kl: {name}: expected the same on all ranks" in mine, mine
    assert "rank 1 refused its arguments" in told[0][6] and told[1][6].startswith("TypeError: seed: expected None")
    assert all("rank 1 called another operation than rank 0" in words[7] for words in told[:2])
    assert told[0][8] == "torch.Size([2, 3, 8])"


@pytest.mark.parametrize(
    "operation, names, options",
    [
        ("posterior_sum_and_kl", POSTERIOR, {}),
        ("correlated_normal_rsample", PARTS, {"with_log_prob": True}),
        ("correlated_normal_log_prob", ["w", *PARTS], {"dtype": "float64"}),
    ],
)
def test_numba_serves_shards(pool, operation, names, options):
    """One process compiles the kernels, three then take them from the cache."""
    if reason := backends()["numba"].reason:
        pytest.skip(f"numba: {reason}")
    for ranks in (1, 3):
        pool.run("distributed.checks:compare", operation=operation, names=names, ranks=ranks, backend="numba",
                 **{"dtype": "float32", **options})


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_cuda_kernels_serve_shards(pool, dtype):
    """As the host emulates them; this process compiles them before the others load them."""
    if reason := emulation.why_not():
        pytest.skip(reason)
    emulation.module()
    for operation, names, options in (("posterior_sum_and_kl", POSTERIOR, {"coupling": "unit"}),
                                      ("correlated_normal_rsample", PARTS, {"with_log_prob": True}),
                                      ("correlated_normal_log_prob", ["w", *PARTS], {}), ("sum_minus_self", ["h"], {})):
        pool.run("distributed.checks:compare", operation=operation, names=names, ranks=3, backend="cuda", dtype=dtype,
                 **options)


def test_triton_kernels_serve_shards(pool):
    """In Triton's interpreter, which takes its time."""
    found = backends()["triton"]
    if found.reason or found.device != "cpu":
        pytest.skip(f"triton: {found.reason or 'not interpreted here'}")
    pool.run("distributed.checks:compare", operation="posterior_sum_and_kl", names=POSTERIOR, ranks=2, backend="triton",
             dtype="float32", width=8, coupling="unit")


@pytest.mark.parametrize("coupling", ["unit", "scaled"])
def test_states_too_large_to_be_gathered_are_reduced(pool, coupling):
    for operation, names in (("posterior_sum_and_kl", POSTERIOR), ("correlated_normal_rsample", PARTS)):
        pool.run("distributed.checks:compare", operation=operation, names=names, ranks=3, coupling=coupling,
                 extreme=True, gathered=0)
