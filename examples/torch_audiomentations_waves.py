"""torch-audiomentations: mixing as the last transform of a Compose, on the device. Noise stands for your recordings."""

import torch
from torch.nn import functional as F
from torch_audiomentations import Compose, Gain, PolarityInversion

import randommix_audio as rma
from randommix_audio.integrations.torch_audiomentations import MixWaveforms


def main() -> None:
    """Train a keyword model for four steps."""
    mix = MixWaveforms(rma.RandomMix(["mixup", "time_cutmix"], per="row"))
    augment = Compose([Gain(output_type="dict"), PolarityInversion(output_type="dict"), mix], output_type="dict")
    logmel = rma.LogMel.preset("whisper")
    model = torch.nn.Linear(logmel.n_mels, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(4):
        wave, word = torch.randn(8, 1, 16000) / 10, torch.randint(4, (8,))
        wave = augment(wave, sample_rate=16000).samples  # (B, C, T)
        logits = model(logmel(wave[:, 0]).mean(2))
        plan = mix.take_plan()
        loss = plan.loss(F.cross_entropy, logits, word)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
