"""transformers, classifiers: Audio Spectrogram Transformer with its features (B, T, F). Noise stands for your data."""

import tempfile

import torch
from transformers import ASTConfig, ASTForAudioClassification, Trainer, TrainingArguments

import randommix_audio as rma
from randommix_audio.integrations.transformers import RandomMixTrainerMixin


class MixTrainer(RandomMixTrainerMixin, Trainer):
    """A Trainer that mixes."""


def main() -> None:
    """Train a tiny model for four steps; for a pretrained one use from_pretrained and ASTFeatureExtractor."""
    config = ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_length=128,
        num_labels=10,
    )
    rows = [{"input_values": torch.randn(128, 128), "labels": word % 10} for word in range(32)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, max_steps=4, logging_steps=1, report_to="none", save_strategy="no")
        mixer = rma.RandomMix(layout="BTF", per="row")
        trainer = MixTrainer(ASTForAudioClassification(config), arguments, mixer=mixer, train_dataset=rows)
        trainer.train()


if __name__ == "__main__":
    main()
