"""Hydra: `python examples/hydra_config.py mixer.p=0.5 mixer.per=row` builds a mixer from a configuration."""

import hydra
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

MIXER = {
    "_target_": "randommix_audio.RandomMix",
    "candidates": ["mixup", {"_target_": "randommix_audio.FMix", "alpha": 0.5}],
    "weights": [1, 2],
    "p": 1.0,
    "per": "batch",
}
ConfigStore.instance().store(name="train", node={"mixer": MIXER})


@hydra.main(version_base=None, config_name="train")
def main(config: DictConfig) -> None:
    """Mix a batch."""
    mixer = hydra.utils.instantiate(config.mixer)
    _, plan = mixer(torch.randn(8, 40, 98))
    print(mixer)
    print(plan.lam)


if __name__ == "__main__":
    main()
