"""Preset `sines` against the paper's tables 1 to 6: every layer's shape and order."""

import pytest
import torch
from torch import nn

from compvae_fast.models import CompVAE
from compvae_fast.nn import GraphBlock
from models.looks import described


@pytest.fixture(scope="module")
def model():
    return CompVAE.from_preset("sines")


def test_table_1_prior_of_z(model):
    assert described(model.prior_z) == ["Linear(1024, 1280)", "ELU", "Linear(1280, 512)"]


def test_table_2_observation(model):
    assert described(model.observation.layers) == [
        "Linear(1280, 800)", "ELU",
        *["Residual(800)", "ELU"] * 3, "Reshape",
        "ConvTranspose1d(160, 80, ks=4, s=2, p=0)", "ELU",
        "Conv1d(80, 80, ks=7, s=1, p=3)", "ELU",
        "ConvTranspose1d(80, 40, ks=8, s=4, p=0)", "ELU",
        "Conv1d(40, 40, ks=7, s=1, p=3)", "ELU",
        "ConvTranspose1d(40, 20, ks=15, s=5, p=0)", "ELU",
        "Conv1d(20, 2, ks=7, s=1, p=3)",
    ]  # fmt: skip


def test_table_2_crops_the_middle_200_of_270(model):
    with torch.no_grad():
        nn.init.normal_(model.observation.layers[-1].weight)
        w_sum, z = torch.randn(2, 1024), torch.randn(2, 256)
        full = model.observation.layers(torch.cat([w_sum, z], -1))
        assert full.shape == (2, 2, 270)
        seen = model.observation(w_sum, z)
        nn.init.zeros_(model.observation.layers[-1].weight)
    assert torch.equal(seen.mu, full[:, 0, 35:235])
    assert seen.logvar.shape == (2, 200)


def test_table_3_features(model):
    assert described(model.features) == [
        "Reshape", "Conv1d(1, 40, ks=10, s=5, p=0)", "ELU",
        "Conv1d(40, 40, ks=7, s=1, p=3)", "ELU",
        "Conv1d(40, 80, ks=6, s=3, p=0)", "ELU",
        "Conv1d(80, 80, ks=7, s=1, p=3)", "ELU",
        "Conv1d(80, 160, ks=4, s=2, p=0)", "ELU", "Reshape",
        "Residual(800)", "ELU",
    ]  # fmt: skip


def test_table_5_posterior_of_z(model):
    assert described(model.posterior_z) == [
        "Linear(800, 512)", "ELU", "Residual(512)", "ELU", "Residual(512)", "ELU", "Linear(512, 512)",
    ]  # fmt: skip


def test_table_6_posterior_of_the_parts(model):
    posterior = model.posterior_w
    assert all(type(block) is GraphBlock and block.reduce == "sum" for block in posterior.blocks)
    widths = [(b.g_first.fc1.in_features, b.out.fc1.in_features) for b in posterior.blocks]
    assert widths == [(2080, 2048), (2048, 2048), (2048, 2048)]
    assert described([posterior.head]) == ["Linear(2048, 3072)"]
    assert posterior.embedding.weight.shape == (10, 1024)


def residual(n):
    return 2 * (n * n + n)


def linear(n, m):
    return n * m + m


def graph_block(n, m):
    return 3 * residual(n) + linear(2 * n, m) + residual(m)


def released_block(n, m):
    return 3 * residual(n) + linear(2 * n, n + m) + residual(n + m) + linear(n + m, m)


def convolutions(*shapes):
    return sum(n * m * width + m for n, m, width in shapes)


def test_parameter_counts(model):
    expected = {
        "prior_w": 2 * 10 * 1024,
        "prior_z": linear(1024, 1280) + linear(1280, 512),
        "observation": linear(1280, 800) + 3 * residual(800) + convolutions(
            (160, 80, 4), (80, 80, 7), (80, 40, 8), (40, 40, 7), (40, 20, 15), (20, 2, 7)
        ),
        "features": residual(800) + convolutions(
            (1, 40, 10), (40, 40, 7), (40, 80, 6), (80, 80, 7), (80, 160, 4)
        ),
        "posterior_z": linear(800, 512) + 2 * residual(512) + linear(512, 512),
        "posterior_w": 10 * 1024 + graph_block(2080, 2048) + 2 * graph_block(2048, 2048) + linear(2048, 3072),
    }
    counted = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert counted == expected


def test_released_order_differs_in_the_blocks_alone():
    with torch.device("meta"):
        model = CompVAE.from_preset("sines-released")
    blocks = 10 * 1024 + released_block(2080, 2048) + 2 * released_block(2048, 2048) + linear(2048, 3072)
    assert sum(p.numel() for p in model.posterior_w.parameters()) == blocks
    assert all(block.released and block.narrow is not None for block in model.posterior_w.blocks)
