"""Official variants against the published procedures, and against values made by the published code."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import randommix_audio as rma
from randommix_audio.mixers.fourier import official_field, official_mask

PUBLISHED = np.load(Path(__file__).parent / "fmix_published.npz")
"""Two triples for each of three shapes from the published FMix code: the noise it drew, its lambda and its mask."""


@pytest.mark.parametrize("shape", ["32x32", "40x98", "80x301"])
def test_official_fmix_makes_the_published_mask_of_the_published_noise(shape):
    noise, mask, lam = (torch.from_numpy(PUBLISHED[f"{shape}_{key}"]) for key in ("noise", "mask", "lam"))
    field = official_field(noise, mask.shape[2])
    rounded_up = (mask.sum((1, 2)) > (lam * mask[0].numel()).floor() + 1e-6).float()
    assert torch.equal(official_mask(field, lam, rounded_up), mask.bool())


def test_official_fmix_area_is_lambda_to_a_pixel():
    lam = torch.rand(50)
    mask = official_mask(torch.rand(50, 13, 29), lam, torch.rand(50))
    assert ((mask.sum((1, 2)) - lam * 13 * 29).abs() < 1 + 1e-3).all()


def test_official_resizemix_pastes_what_interpolate_makes():
    x = torch.randn(6, 2, 21, 40)
    mixer = rma.ResizeMix(variant="official", per="batch")
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        plan = mixer.plan(x, generator=generator)
        generator.manual_seed(seed)
        torch.randperm(6, generator=generator)
        tau = float(0.1 + 0.7 * torch.rand(1, generator=generator))
        small = F.interpolate(x[plan.sources[1]], scale_factor=tau, mode="nearest")
        mixed = plan.apply(x)
        for row, (f0, f1, t0, t1) in enumerate(plan.geometry.corners.tolist()):
            assert small.shape[2:] == (f1 - f0, t1 - t0)
            assert torch.equal(mixed[row, :, f0:f1, t0:t1], small[row])


def test_official_resizemix_shares_the_size_and_draws_a_position_for_each_row():
    corners = rma.ResizeMix(variant="official", per="batch").plan(torch.zeros(64, 40, 90)).geometry.corners
    assert len((corners[:, 3] - corners[:, 2]).unique()) == 1
    assert len(corners[:, 2].unique()) > 5


def test_default_resizemix_interpolates_linearly_as_pytorch_does():
    x = torch.randn(4, 1, 24, 50)
    plan = rma.ResizeMix(per="row").plan(x, generator=torch.Generator().manual_seed(2))
    mixed = plan.apply(x)
    for row, (f0, f1, t0, t1) in enumerate(plan.geometry.corners.tolist()):
        partner = x[plan.sources[1, row]][None]
        small = F.interpolate(partner, size=(f1 - f0, t1 - t0), mode="bilinear", align_corners=False)
        torch.testing.assert_close(mixed[row, :, f0:f1, t0:t1], small[0], atol=1e-5, rtol=1e-5)


def test_resizemix_squeezes_only_the_partners_valid_frames():
    x = torch.zeros(2, 5, 40)
    x[1, :, :10] = 1
    lengths = torch.tensor([40, 10])
    plan = rma.ResizeMix(pairing="roll", per="row").plan(x, lengths, generator=torch.Generator().manual_seed(0))
    f0, f1, t0, t1 = plan.geometry.corners[0].tolist()
    torch.testing.assert_close(plan.apply(x)[0, f0:f1, t0:t1], torch.ones(f1 - f0, t1 - t0))


def test_official_cutmix_is_clipped_at_the_edge_and_the_default_is_not():
    x = torch.zeros(4000, 20, 30)
    official = rma.CutMix(variant="official", per="row").plan(x).geometry.corners
    default = rma.CutMix(per="row", alpha=5).plan(x).geometry.corners
    assert (official[:, 0] == 0).float().mean() > 2 * (default[:, 0] == 0).float().mean()
    assert (default[:, 1] <= 20).all()
    assert (default[:, 3] <= 30).all()


def test_a_time_cut_is_never_the_silent_no_op_of_square_cutmix_on_one_bin():
    shares = rma.CutMix(per="row").plan(torch.zeros(2000, 1, 1000), generator=torch.Generator().manual_seed(0)).lam
    assert (shares == 1).float().mean() < 0.01
