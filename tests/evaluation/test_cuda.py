"""Damage under fixed conditions is the same on a CUDA device as on the CPU, up to rounding."""

import copy

import pytest
import torch

from randommix_audio.evaluation import GROUPS, evaluate, fgsm, row_keys, speech_conditions, uniforms, zero_blocks
from tests.evaluation.test_speech import FRONT_END, clips, trained

pytestmark = pytest.mark.cuda


def test_the_numbers_of_a_row_are_those_of_the_cpu():
    here, there = (row_keys(0, "white", torch.arange(7, device=device)) for device in ("cpu", "cuda"))
    assert torch.equal(there.cpu(), here)
    assert torch.equal(uniforms(there, 50).cpu(), uniforms(here, 50))


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "clean"])
def test_errors_under_every_condition_are_those_of_the_cpu(group):
    model, whole = trained(), clips(40)
    conditions = speech_conditions([group])
    here = evaluate(FRONT_END, model, whole, conditions)
    there = evaluate(copy.deepcopy(FRONT_END).cuda(), model.cuda(), whole, conditions)
    for name, found in here["conditions"].items():
        assert abs(there["conditions"][name]["error"] - found["error"]) <= 1 / len(whole)


def test_pixels_are_attacked_and_covered_as_on_the_cpu():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 10 * 14, 3))
    x, target = torch.rand(6, 3, 12, 16), torch.arange(6) % 3
    keys = row_keys(0, "occlusion", torch.arange(6))
    torch.testing.assert_close(zero_blocks(x.cuda(), keys.cuda()).cpu(), zero_blocks(x, keys), rtol=0, atol=0)
    here = fgsm(model, x, target, 8 / 255)
    there = fgsm(model.cuda(), x.cuda(), target.cuda(), 8 / 255).cpu()
    assert ((there - here).abs() < 1e-5).float().mean() > 0.99
