"""transformers, Whisper: both transcripts of a mix, the encoder run once. Noise stands for your recordings."""

import tempfile

import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, WhisperConfig, WhisperFeatureExtractor
from transformers import WhisperForConditionalGeneration as Whisper

import randommix_audio as rma
from randommix_audio.integrations.transformers import RandomMixTrainerMixin


class MixTrainer(RandomMixTrainerMixin, Seq2SeqTrainer):
    """A Seq2SeqTrainer that mixes."""


def main() -> None:
    """Train a tiny model for two steps; for a pretrained one use from_pretrained and your tokenizer."""
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    symbols = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 1}
    model = Whisper(
        WhisperConfig(vocab_size=50, suppress_tokens=None, begin_suppress_tokens=None, **sizes, **heads, **symbols)
    )
    extractor = WhisperFeatureExtractor()
    waves = [torch.randn(32000).numpy() / 10 for _ in range(4)]
    features = extractor(waves, sampling_rate=16000, return_tensors="pt").input_features  # (B, 80, 3000)
    rows = [{"input_features": row, "labels": [5, 6, 7 + number, 1]} for number, row in enumerate(features)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            folder, max_steps=2, per_device_train_batch_size=2, logging_steps=1, report_to="none", save_strategy="no"
        )
        mixer = rma.RandomMix(["mixup", "freq_cutmix"], per="row", p=0.5)
        MixTrainer(model, arguments, mixer=mixer, train_dataset=rows).train()


if __name__ == "__main__":
    main()
