"""HyperPyYAML: a mixer in a SpeechBrain configuration."""

import torch
from hyperpyyaml import load_hyperpyyaml

HPARAMS = """
alpha: 0.5
mixer: !new:randommix_audio.RandomMix
    candidates:
        - mixup
        - !new:randommix_audio.FMix
            alpha: !ref <alpha>
    weights: [1, 2]
    per: row
"""

if __name__ == "__main__":
    mixer = load_hyperpyyaml(HPARAMS, overrides={"alpha": 1.0})["mixer"]
    _, plan = mixer(torch.randn(8, 40, 98))
    print(mixer)
    print(plan.lam)
