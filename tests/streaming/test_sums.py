"""Sums over long multisets: what they are, whatever the chunks, and what is said of bad sources."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from compvae_fast import CompVAE, ops, streaming

K, RUN = 10_001, 4096
LABELS = torch.randint(0, 5, (K,), generator=torch.Generator().manual_seed(0))
MU, LOGVAR = torch.randn(2, 5, 70, generator=torch.Generator().manual_seed(1)).unbind()


def draw(labels=LABELS, **settings):
    return streaming.prior_sum(labels, MU, LOGVAR, seed=7, **settings)


def test_it_is_the_sum_that_the_operation_draws():
    """Within 1e-6 of sum |mu| + sigma: float32 sums of 32 parts, joined in float64."""
    w_sum, parts, counts = draw()
    whole = ops.prior_sum(LABELS[None], MU.double(), LOGVAR.double(), seed=7)
    size = (MU.abs() + (LOGVAR / 2).exp())[LABELS].sum(0)
    assert parts == K and w_sum.dtype == torch.float32
    assert torch.equal(counts, LABELS.bincount()) and torch.equal(draw(collapse=True).counts, counts)
    assert ((w_sum - whole).abs() < 1e-6 * size).all()


@pytest.mark.parametrize(
    "source",
    [
        LABELS.numpy().astype(np.uint8),
        LABELS.tolist().__iter__(),
        (LABELS[i : i + 777] for i in range(0, K, 777)),
        (piece.numpy() for piece in LABELS.split([0, 1, 9999, 1])),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2 * RUN, 10**6])
def test_neither_chunks_nor_the_kind_of_source_change_a_bit(source, chunk):
    items = list(source) if not isinstance(source, np.ndarray) else source
    found = draw(iter(items) if isinstance(items, list) else items, chunk=chunk)
    assert found.parts == (K if not isinstance(items, list) or len(items) else 0)
    assert torch.equal(found.w_sum, draw().w_sum) or not found.parts


def test_files_give_the_same_bits(tmp_path):
    np.save(tmp_path / "labels.npy", LABELS.numpy())
    (tmp_path / "labels.txt").write_text("\n".join(map(str, LABELS.tolist())))
    for name in ("labels.npy", "labels.txt"):
        assert len(streaming.open_parts(tmp_path / name)) == K
        assert torch.equal(draw(tmp_path / name).w_sum, draw().w_sum)
        assert torch.equal(ops.prior_sum(tmp_path / name, MU, LOGVAR, seed=7), draw().w_sum)


def test_several_sets_and_a_later_start_in_one_reading():
    several = draw(set_index=torch.tensor([0, 9]))
    assert torch.equal(several.w_sum[:1], draw().w_sum)
    assert torch.equal(several.w_sum[1:], draw(set_index=torch.tensor([9])).w_sum)
    first, rest = draw(LABELS[:5000]).w_sum, draw(LABELS[5000:], part_start=5000).w_sum
    torch.testing.assert_close(first + rest, draw().w_sum, rtol=1e-5, atol=1e-2)
    assert not torch.allclose(first + draw(LABELS[5000:]).w_sum, draw().w_sum, rtol=1e-5, atol=1e-2)


def test_collapsed_it_is_the_draw_from_the_counts():
    counts = torch.bincount(LABELS, minlength=5)[None]
    for source in (LABELS.numpy(), iter(LABELS.tolist())):
        found = draw(source, collapse=True, chunk=RUN)
        assert found.parts == K and torch.equal(found.w_sum, ops.prior_sum(None, MU, LOGVAR, counts=counts, seed=7))


def test_a_network_gives_the_same_parts_whatever_the_chunk():
    def network(features):
        label = features[:, 0].long()
        return MU[label], LOGVAR[label]

    features = LABELS.float()[:, None].numpy()
    for chunk in (RUN, 2 * RUN):
        found = streaming.prior_sum_of_network(features, network, seed=7, chunk=chunk)
        assert torch.equal(found.w_sum, draw().w_sum) and found.parts == K


def test_progress_adds_up_and_an_empty_source_gives_zero():
    seen = []
    draw(chunk=RUN, progress=seen.append)
    assert seen == [RUN, RUN, K - 2 * RUN]
    empty = draw(iter([]))
    assert empty.parts == 0 and torch.equal(empty.w_sum, torch.zeros(1, 70))


def test_models_take_streams_and_number_labels_their_own_way(tmp_path):
    model = CompVAE.from_preset("sines-small", hidden=8)
    labels = (LABELS + 1).numpy()
    np.save(tmp_path / "labels.npy", labels)
    many = model.generate(tmp_path / "labels.npy", n=3, seed=2)
    torch.testing.assert_close(many, model.generate(labels.tolist(), n=3, seed=2), rtol=1e-3, atol=1e-3 * K)
    alone = model.generate(labels, n=1, seed=2, set_index=torch.tensor([2]))
    torch.testing.assert_close(alone[0], many[2], rtol=1e-4, atol=1e-4 * K)
    with pytest.raises(IndexError, match=r"labels: expected values in 1\.\.10, got 0 at part 1"):
        model.generate(iter([1, 0]))


def test_bad_sources_are_named(tmp_path):
    with pytest.raises(IndexError, match=r"labels: expected values in 0\.\.4, got 5 at part 9000"):
        draw(torch.cat([LABELS[:9000], torch.tensor([5])]), chunk=RUN)
    (tmp_path / "bad.txt").write_text("1\n2\nx\n")
    with pytest.raises(ValueError, match=r"bad.txt: row 2: expected a whole number, got 'x'"):
        draw(tmp_path / "bad.txt")
    (tmp_path / "bad.csv").write_text("1.0,2\n3\n")
    with pytest.raises(ValueError, match=r"bad.csv: row 1: expected numbers with commas between them, got '3'"):
        streaming.prior_sum_of_network(tmp_path / "bad.csv", lambda f: (f, f), seed=0)
    np.save(tmp_path / "cut.npy", LABELS.numpy())
    with open(tmp_path / "cut.npy", "r+b") as file:
        file.truncate(4000)
    with pytest.raises(ValueError, match="cut.npy: damaged, truncated or no .npy file"):
        draw(tmp_path / "cut.npy")
    np.save(tmp_path / "floats.npy", MU[0].numpy())
    with pytest.raises(ValueError, match=r"expected integers \[K\] or floats \[K, F\], got float32 \[70\]"):
        draw(tmp_path / "floats.npy")
    with pytest.raises(ValueError, match="expected a file of the kind .npy, .txt or .csv, got '.bin'"):
        draw(tmp_path / "labels.bin")
    with pytest.raises(ValueError, match="counts: expected None beside a stream"):
        ops.prior_sum(iter([1]), MU, LOGVAR, counts=torch.zeros(1, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match="records no gradient"):
        ops.prior_sum(iter([1]), MU.clone().requires_grad_(), LOGVAR)
    with pytest.raises(TypeError, match="labels: expected a torch.Tensor"):
        ops.prior_sum([[1]], MU, LOGVAR)


def test_memory_does_not_grow_with_the_number_of_parts(tmp_path):
    """Anonymous memory, as the kernel counts it, rises by less than 30 MB over 16 million mapped labels (128 MB)."""
    if not sys.platform.startswith("linux"):
        pytest.skip("anonymous memory is read from /proc")
    np.lib.format.open_memmap(tmp_path / "labels.npy", mode="w+", dtype=np.int64, shape=(1 << 24,)).flush()
    code = """
        import sys, torch
        from compvae_fast import streaming
        def anonymous():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
        mu = torch.zeros(5, 1)
        streaming.prior_sum(range(10_000).__iter__(), torch.zeros(10_000, 1), torch.zeros(10_000, 1), seed=0)
        before, highest = anonymous(), []
        streaming.prior_sum(sys.argv[1], mu, mu, seed=0, progress=lambda _: highest.append(anonymous()))
        print(max(highest) - before)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path / "labels.npy"], capture_output=True,
                         text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 30_000
