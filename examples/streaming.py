"""A corpus that is streamed from files: decoded in workers, features on the way. Noise stands for your data."""

import json
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn
from torch.nn import functional as F

import randommix_audio as rma
from randommix_audio.data import Prefetch, StreamLoader, read_manifest


def main(folder: Path, device: str) -> None:
    """Write 40 clips and their manifest, and train on them."""
    for i in range(40):
        soundfile.write(folder / f"{i}.flac", 0.1 * np.random.default_rng(i).normal(size=8000 + 100 * i), 16000)
    entries = [{"audio_filepath": f"{i}.flac", "label": i % 10} for i in range(40)]
    (folder / "train.json").write_text("\n".join(map(json.dumps, entries)))
    clips = read_manifest(folder / "train.json", target="label")
    loader = StreamLoader(clips, batch_size=16, workers=2, pin_memory=device == "cuda")
    logmel, mixer = rma.LogMel.preset("whisper").to(device), rma.RandomMix(per="row")
    model = nn.Sequential(nn.Conv1d(80, 32, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.to(device).parameters(), 1e-3)
    for epoch in range(2):
        for batch, x, frames in Prefetch(loader.epoch(epoch), device, lambda b: (b, *logmel(b.wave, b.lengths))):
            x, plan = mixer(x, lengths=frames)
            loss = plan.loss(F.cross_entropy, model(x), batch.target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name), "cuda" if torch.cuda.is_available() else "cpu")
