"""Plain PyTorch: mixing in the workers of a DataLoader. Noise stands for your data."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import randommix_audio as rma
from randommix_audio.integrations.collate import MixCollate


def main() -> None:
    """Train a keyword model for two epochs."""
    words = [(torch.randn(40, 98), word % 10) for word in range(64)]  # log-mel (F, T) and class
    mixer = rma.RandomMix(per="row")
    loader = DataLoader(words, batch_size=16, shuffle=True, num_workers=2, collate_fn=MixCollate(mixer))
    model = nn.Sequential(nn.Conv1d(40, 32, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for epoch in range(2):
        for x, word, plan in loader:
            loss = plan.loss(F.cross_entropy, model(x), word)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
