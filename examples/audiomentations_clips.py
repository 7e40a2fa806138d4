"""audiomentations: each clip is changed by it, then the batch is mixed. Noise stands for your recordings."""

import audiomentations
import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import randommix_audio as rma
from randommix_audio.integrations.collate import MixCollate

augment = audiomentations.Compose([audiomentations.Gain(p=0.5), audiomentations.AddGaussianNoise(p=0.5)])
logmel = rma.LogMel.preset("whisper")


def collate(clips: list[tuple[np.ndarray, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Augmented log-mels (B, F, T) and classes."""
    waves = [torch.from_numpy(augment(samples=wave, sample_rate=16000)) for wave, _ in clips]
    return logmel(torch.stack(waves)), torch.tensor([word for _, word in clips])


def main() -> None:
    """Train a keyword model for one epoch."""
    clips = [(torch.randn(16000).numpy() / 10, word % 4) for word in range(16)]
    loader = DataLoader(clips, batch_size=8, collate_fn=MixCollate(rma.RandomMix(per="row"), collate))
    model = torch.nn.Linear(logmel.n_mels, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for x, word, plan in loader:
        loss = plan.loss(F.cross_entropy, model(x.mean(2)), word)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
