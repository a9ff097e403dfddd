"""prior_sum on every backend against the float64 reference: labels, counts, collapsed draws, and its gradients."""

from __future__ import annotations

import functools
import math

import pytest
import torch

import compvae_fast
from compvae_fast import ops

from .conformity import DTYPES
from .judge import close, error, holds, representable, rounding, strictness
from .sets import LAYOUTS, Sizes, strided

WIDTH, SEED = 70, 3
RAGGED = Sizes((33, 0, 1, 70, 2, 40))
FORMS = ("labels", "collapse", "counts", "rows")


def tables(classes: int, dtype, means: bool = True):
    """Means and log-variances of the classes; the last one is NaN, and nobody has it."""
    generator = torch.Generator().manual_seed(1)
    mu, logvar = torch.randn(2, classes, WIDTH, generator=generator)
    mu, logvar = mu * means, 3 * logvar
    mu[-1] = logvar[-1] = math.nan
    return mu.to(dtype), logvar.to(dtype)


def arguments(form: str, classes: int, layout: str, sizes: Sizes) -> tuple[torch.Tensor | None, dict]:
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, classes - 1, (sizes.rows,), generator=generator)
    if form == "counts":
        counts = torch.stack([torch.bincount(rows, minlength=classes) for rows in labels.split(sizes.sizes)])
        return None, {"counts": counts}
    if form == "rows":
        return None, {"offsets": sizes.offsets}
    keywords = sizes.keywords(layout)
    return sizes.laid_out(labels, layout), {**keywords, "collapse": True} if form == "collapse" else keywords


def call(mu, logvar, labels, keywords):
    """w~ and its gradients for a fixed upstream."""
    mu, logvar = mu.detach().requires_grad_(), logvar.detach().requires_grad_()
    w = ops.prior_sum(labels, mu, logvar, seed=SEED, **keywords)
    upstream = torch.randn(w.shape, generator=torch.Generator().manual_seed(4)).to(torch.bfloat16).to(w.dtype)
    return w.detach(), torch.autograd.grad(w, (mu, logvar), upstream)


@functools.cache
def expected(form, classes, sizes, dtype, means):
    """The reference in float64, and the standard deviation of w~."""
    mu, logvar = (t.double() for t in tables(classes, dtype, means))
    labels, keywords = arguments(form, classes, "ragged", sizes)
    with compvae_fast.use_backend("reference"):
        result = call(mu, logvar, labels, keywords)
    variance = torch.zeros_like(result[0])
    rows = torch.arange(sizes.rows) if form == "rows" else arguments("labels", classes, "ragged", sizes)[0]
    variance.index_add_(0, sizes.owner, logvar.exp()[rows])
    return *result, variance.sqrt(), mu.nan_to_num().abs().max()


def conforms(form, classes, sizes, dtype, layout, means, views=lambda t: t):
    w, gradients = call(*map(views, tables(classes, dtype, means)), *arguments(form, classes, layout, sizes))
    truth, true_gradients, deviation, largest = expected(form, classes, sizes, dtype, means)
    assert w.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    many = torch.tensor(sizes.sizes)[:, None]
    close("w~", w, truth, 1e-4 * deviation + 3e-7 * many * largest)
    joint = sum(g.square() for g in true_gradients).sqrt()
    for name, gradient, true_gradient in zip(("mu", "logvar"), gradients, true_gradients):
        assert gradient.dtype == dtype and not gradient[-1].any(), "nobody has the last class"
        true_gradient = representable(true_gradient, dtype)
        excess = (error(gradient, true_gradient) - rounding(true_gradient, dtype)).clamp(min=0)
        holds(f"gradient of {name}_table", excess, strictness(dtype) * (1e-4 * true_gradient.abs() + 1e-6 * joint))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [4, 100])
@pytest.mark.parametrize("form", ["labels", "collapse"])
def test_labels(backend, form, classes, dtype, layout):
    """Few classes, whose rows a kernel may keep, and many."""
    sizes = RAGGED if RAGGED.fits(layout) else Sizes((40, 40, 40))
    conforms(form, classes, sizes, dtype, layout, means=False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_counts_and_rows(backend, dtype):
    for classes in (4, 100):
        conforms("counts", classes, RAGGED, dtype, "ragged", means=True)
    sizes = Sizes((*RAGGED.sizes, 0))
    mu, logvar = (t[: sizes.rows] for t in tables(sizes.rows + 1, dtype))
    w, gradients = call(mu, logvar, None, {"offsets": sizes.offsets})
    again, same = call(mu, logvar, torch.arange(sizes.rows), {"offsets": sizes.offsets})
    assert torch.equal(w, again) and all(torch.equal(a, b) for a, b in zip(gradients, same))


@pytest.mark.parametrize("form", ["labels", "counts"])
def test_tables_of_any_strides(backend, form):
    conforms(form, 4, RAGGED, torch.float32, "ragged", means=True, views=strided)


@pytest.mark.parametrize("width", [1, 64, 129])
def test_widths(backend, width):
    labels = torch.tensor([[0, 1, 1]])
    mu, logvar = torch.tensor([[1.0], [2.0]]).expand(2, width), torch.full((2, width), -torch.inf)
    assert torch.equal(ops.prior_sum(labels, mu, logvar, seed=0), torch.full((1, width), 5.0))


def test_labels_and_counts_draw_the_same_whole(backend):
    """collapse=True and counts are one draw, and a set's own whatever the batch holds."""
    mu, logvar = tables(4, torch.float32)
    labels, _ = arguments("labels", 4, "ragged", RAGGED)
    _, counted = arguments("counts", 4, "ragged", RAGGED)
    w = ops.prior_sum(labels, mu, logvar, offsets=RAGGED.offsets, collapse=True, seed=SEED)
    assert torch.equal(w, ops.prior_sum(None, mu, logvar, **counted, seed=SEED))
    one = ops.prior_sum(labels[34:104], mu, logvar, offsets=torch.tensor([0, 70]), collapse=True, seed=SEED,
                        set_index=torch.tensor([3]))
    assert torch.equal(w[3], one[0])


def test_a_whole_is_the_sum_of_its_shards(backend):
    """part_start: the noise of a part does not depend on which call draws it."""
    mu, logvar = tables(4, torch.float32)
    labels = arguments("labels", 4, "ragged", Sizes((100,)))[0][None]
    whole = ops.prior_sum(labels, mu, logvar, seed=SEED)
    shards = [ops.prior_sum(labels[:, a:b], mu, logvar, seed=SEED, part_start=torch.tensor([a]))
              for a, b in ((0, 37), (37, 37), (37, 100))]
    torch.testing.assert_close(sum(shards), whole, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("collapse", [False, True])
def test_the_indices_of_the_noise(backend, collapse):
    """Forward and backward draw the noise of set_index and part_start, beyond 32 bits too."""
    labels, keywords = arguments("labels", 4, "ragged", Sizes((33, 0, 70)))
    keywords |= {"set_index": torch.tensor([7, 2, 2**47 + 2**33 + 1]), "part_start": torch.tensor([3, 1, 2**32 - 40]),
                 "offsets": torch.tensor([0, 33, 33, 103]), "collapse": collapse}
    mu, logvar = tables(4, torch.float32)
    found, gradients = call(mu, logvar, labels, keywords)
    with compvae_fast.use_backend("reference"):
        truth, true_gradients = call(mu.double(), logvar.double(), labels, keywords)
    torch.testing.assert_close(found.double(), truth, rtol=1e-5, atol=1e-4)
    for gradient, expected in zip(gradients, true_gradients):
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_batch_and_the_threads_do_not_matter(backend):
    mu, logvar = tables(4, torch.float32)
    labels, keywords = arguments("labels", 4, "ragged", RAGGED)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        w, gradients = call(mu, logvar, labels, keywords)
        torch.set_num_threads(3)
        again, same = call(mu, logvar, labels, keywords)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(w, again) and all(torch.equal(a, b) for a, b in zip(gradients, same))
    for b, (start, size) in enumerate(zip(RAGGED.offsets.tolist(), RAGGED.sizes)):
        one = ops.prior_sum(labels[None, start : start + size], mu, logvar, seed=SEED, set_index=torch.tensor([b]))
        assert torch.equal(one[0], w[b])


@pytest.mark.parametrize("collapse", [False, True])
def test_parts_without_variance(backend, collapse):
    """log-variances of -inf: the whole is the sum of the means, and no gradient reaches them."""
    mu, logvar = torch.tensor([[1.0], [10.0]]), torch.full((2, 1), -torch.inf)
    w, (to_mu, to_logvar) = call(mu, logvar, torch.tensor([[0, 1, 1]]), {"collapse": collapse})
    assert w.item() == 21 and to_mu[1, 0] == 2 * to_mu[0, 0] and not to_logvar.any()


@pytest.mark.parametrize("count", [10, 10**6, 10**12, 2**53])
def test_counts_of_any_size(backend, count):
    """Mean n mu and variance n sigma^2 to the digits of float64; the noise is that of one part."""
    mu, logvar = torch.full((1, 2), 0.3, dtype=torch.float64), torch.tensor([[-torch.inf, 0.0]], dtype=torch.float64)
    w = ops.prior_sum(None, mu, logvar, counts=torch.tensor([[count]]), seed=SEED)[0]
    eps = ops.prior_sum(torch.tensor([[0]]), mu * 0, logvar, seed=SEED)[0, 1]
    torch.testing.assert_close(w, torch.stack([count * mu[0, 0], count * mu[0, 0] + math.sqrt(count) * eps]),
                               rtol=1e-15, atol=0)


def test_many_parts(backend):
    labels = torch.randint(0, 3, (1, 10**5), generator=torch.Generator().manual_seed(0))
    mu, logvar = torch.zeros(3, 2), torch.tensor([[0.0, 10.0], [-5.0, 3.0], [1.0, -20.0]])
    found, gradients = call(mu, logvar, labels, {})
    with compvae_fast.use_backend("reference"):
        truth, true_gradients = call(mu.double(), logvar.double(), labels, {})
    variance = logvar.double().exp()[labels[0]].sum(0)
    close("w~", found, truth, 1e-4 * variance.sqrt()[None])
    joint = sum(g.square() for g in true_gradients).sqrt()
    for gradient, true_gradient in zip(gradients, true_gradients):
        close("gradient", gradient, true_gradient, 1e-4 * true_gradient.abs() + 1e-6 * joint)


@pytest.mark.parametrize("keywords", [{}, {"collapse": True}], ids=["parts", "collapsed"])
def test_distribution(backend, keywords):
    """n = 40,000 wholes of labels 0, 1, 1, three coordinates each: mean and variance against the truth.

    Six statistics within 5.5 of their standard deviations: false alarm 2.3e-7. A deviation off by 4 % is missed with
    odds below 1e-6: it moves the variance's statistic by 11.
    """
    n, width = 40_000, 3
    mu, logvar = torch.tensor([[1.0], [-3.0]]).expand(2, width), torch.tensor([[0.5], [-1.0]]).expand(2, width)
    w = ops.prior_sum(torch.tensor([[0, 1, 1]]).expand(n, 3), mu, logvar, seed=17, **keywords).double()
    variance = math.exp(0.5) + 2 * math.exp(-1.0)
    assert (((w.mean(0) + 5) / math.sqrt(variance / n)).abs() < 5.5).all()
    assert (((w.var(0) / variance - 1) / math.sqrt(2 / n)).abs() < 5.5).all()


def test_vmap_over_what_tells_the_parts(backend):
    """Labels, lengths, counts, offsets and seeds may each be mapped."""
    generator = torch.Generator().manual_seed(9)
    mu, logvar = torch.randn(2, 6, 5, generator=generator)
    labels = torch.randint(0, 6, (7, 3, 4), generator=generator)
    lengths, counts = (torch.randint(0, 5, (7, 3), generator=generator) for _ in range(2))
    counts = counts[..., None].expand(7, 3, 6)
    ragged = {"labels": labels.reshape(7, 12), "offsets": torch.tensor([[0, 2, 2, 12]] * 6 + [[0, 1, 5, 12]])}

    def draw(labels=None, seed=SEED, **keywords):
        return ops.prior_sum(labels, mu, logvar, seed=seed, **keywords)

    for mapped, fixed in (
        ({"labels": labels}, {}),
        ({"labels": labels, "lengths": lengths}, {}),
        ({"counts": counts}, {}),
        (ragged, {}),
        ({"offsets": ragged["offsets"]}, {"labels": ragged["labels"][0]}),
        ({"seed": torch.arange(7)}, {"labels": labels[0]}),
    ):
        found = torch.vmap(lambda *values, keys=tuple(mapped), fixed=fixed: draw(**dict(zip(keys, values)), **fixed))(
            *mapped.values())
        expected = [draw(**{name: v[i] for name, v in mapped.items()}, **fixed) for i in range(7)]
        assert torch.equal(found, torch.stack(expected)), list(mapped)


def test_vmap_gives_each_call_its_own_gradient(backend):
    """Tables that all calls share have a gradient for each of them."""
    labels = torch.tensor([[[0, 1]], [[2, 2]]])
    mu, logvar = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(9))

    def gradient(labels):
        return torch.func.grad(lambda m: ops.prior_sum(labels, m, logvar, seed=SEED).square().sum())(mu)

    assert torch.equal(torch.vmap(gradient)(labels), torch.stack([gradient(one) for one in labels]))


@pytest.mark.parametrize(("labels", "error", "message"), [
    (torch.tensor([[0, 2], [1, 3]]), IndexError, r"^labels: expected values in \[0, C = 3\), got 3 at \[1, 1\]$"),
    (torch.tensor([[0, -1]]), IndexError, r"^labels: expected values in \[0, C = 3\), got -1 at \[0, 1\]$"),
    (torch.tensor([[0.0]]), TypeError, "^labels: expected dtype int64 or int32, got torch.float32$"),
    (torch.tensor([0]), ValueError, r"^labels: expected shape \[B, K\] \(or \[N\] with offsets\), got \[1\]$"),
    (None, ValueError, "^labels: expected a torch.Tensor, or None beside counts or offsets, got None$"),
    ([0], TypeError, "^labels: expected a torch.Tensor, got list$"),
], ids=str)
def test_wrong_labels(backend, labels, error, message):
    with pytest.raises(error, match=message):
        ops.prior_sum(labels, torch.zeros(3, 2), torch.zeros(3, 2))


@pytest.mark.parametrize(("keywords", "error", "message"), [
    ({"counts": torch.tensor([[1, -2, 0]])}, ValueError, r"^counts: expected values in \[0, 2\^53\], got -2$"),
    ({"counts": torch.tensor([[1, 2**53 + 1, 0]])}, ValueError, r"^counts: expected .*, got 9007199254740993$"),
    ({"counts": torch.tensor([[1, 0]])}, ValueError, r"^counts: expected shape \[B, C = 3\], got \[1, 2\]$"),
    ({"counts": torch.tensor([[1.0, 0, 0]])}, TypeError, "^counts: expected dtype int64 or int32, got torch.float32$"),
    ({"counts": torch.tensor([[1, 0, 0]]), "lengths": torch.tensor([1])}, ValueError, "^lengths: expected None beside"),
    ({"offsets": torch.tensor([0, 4])}, ValueError, "^offsets: expected to run from 0 to N = 3, got 0 to 4$"),
    ({"offsets": torch.tensor([0, 3]), "collapse": 1}, TypeError, "^collapse: expected a bool, got int$"),
], ids=str)
def test_wrong_counts_and_offsets(backend, keywords, error, message):
    with pytest.raises(error, match=message):
        ops.prior_sum(None, torch.zeros(3, 2), torch.zeros(3, 2), **keywords)


def test_wrong_tables():
    labels = torch.tensor([[0]])
    with pytest.raises(ValueError, match=r"^logvar_table: expected shape \[3, 2\] like mu_table, got \[2, 2\]$"):
        ops.prior_sum(labels, torch.zeros(3, 2), torch.zeros(2, 2))
    with pytest.raises(TypeError, match="^logvar_table: expected dtype torch.float32 like mu_table, got .*float64$"):
        ops.prior_sum(labels, torch.zeros(3, 2), torch.zeros(3, 2).double())
    with pytest.raises(ValueError, match=r"^mu_table: expected shape \[C, D\], got \[3\]$"):
        ops.prior_sum(labels, torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="^labels: expected None beside counts, got a Tensor$"):
        ops.prior_sum(labels, torch.zeros(3, 2), torch.zeros(3, 2), counts=torch.zeros(1, 3).long())
    with pytest.raises(ValueError, match=r"^part_start: expected values in \[0, "):
        ops.prior_sum(labels, torch.zeros(3, 2), torch.zeros(3, 2), part_start=torch.tensor([2**48]))
