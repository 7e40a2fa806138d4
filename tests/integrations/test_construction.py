"""Configurations: Hydra and HyperPyYAML build every mixer and the adapters by their import paths."""

import hydra
import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from omegaconf import OmegaConf

import randommix_audio as rma

KINDS = [type(rma.build(name)) for name in rma.MIXERS]
NESTED = {"_target_": "randommix_audio.RandomMix", "candidates": ["fmix", {"_target_": "randommix_audio.Mixup"}]}


@pytest.mark.parametrize("kind", KINDS)
def test_hydra_builds_every_mixer(kind):
    path = f"{kind.__module__}.{kind.__name__}"
    config = OmegaConf.create({"_target_": path, "per": "row", "p": [[0.0, 0.5], [1.0, 0.0]], "pairing": "roll"})
    mixer = hydra.utils.instantiate(config)
    assert type(mixer) is kind
    assert mixer.current_p == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_hyperpyyaml_builds_every_mixer(kind):
    arguments = "{per: row, p: [[0.0, 0.5], [1.0, 0.0]], pairing: roll}"
    mixer = load_hyperpyyaml(f"mixer: !new:{kind.__module__}.{kind.__name__} {arguments}")["mixer"]
    assert type(mixer) is kind
    assert mixer.current_p == 0.5


def test_hydra_builds_candidates_in_candidates():
    mixer = hydra.utils.instantiate(OmegaConf.create({**NESTED, "weights": [3, 1]}))
    assert [candidate.name for candidate in mixer.candidates] == ["fmix", "mixup"]
    assert mixer(torch.randn(4, 8, 10))[0].shape == (4, 8, 10)


def test_hyperpyyaml_builds_what_a_speechbrain_recipe_needs():
    text = """
mixer: !new:randommix_audio.RandomMix
    candidates:
        - mixup
        - !new:randommix_audio.FreqCutMix
            alpha: 0.5
    layout: BTF
    p: 0.3
    per: row
mix: !new:randommix_audio.integrations.speechbrain.MixAugment
    mixer: !ref <mixer>
"""
    found = load_hyperpyyaml(text)
    assert found["mix"].mixer is found["mixer"]
    assert found["mixer"].candidates[1].alpha == 0.5
    mixed, lens = found["mix"](torch.randn(4, 10, 8), torch.ones(4))
    assert mixed.shape == (4, 10, 8)
    assert torch.equal(lens, torch.ones(4))


@pytest.mark.parametrize(
    "path",
    [
        "randommix_audio.integrations.collate.MixCollate",
        "randommix_audio.integrations.lightning.RandomMixCallback",
        "randommix_audio.integrations.speechbrain.MixAugment",
        "randommix_audio.integrations.torch_audiomentations.MixWaveforms",
    ],
)
def test_hydra_builds_the_adapters(path):
    adapter = hydra.utils.instantiate(OmegaConf.create({"_target_": path, "mixer": NESTED}))
    assert isinstance(adapter.mixer, rma.RandomMix)
