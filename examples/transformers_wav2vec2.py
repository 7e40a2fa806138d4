"""transformers, CTC on waveforms, in a loop of your own: Wav2Vec2, HuBERT, WavLM. Noise stands for your recordings."""

import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

import randommix_audio as rma
from randommix_audio.integrations.transformers import mix_inputs, mixed_loss


def main() -> None:
    """Train a tiny model for four steps; for a pretrained one use from_pretrained and your tokenizer."""
    config = Wav2Vec2Config(
        vocab_size=30,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=[16] * 7,
        feat_extract_norm="layer",
        ctc_loss_reduction="mean",
    )
    model = Wav2Vec2ForCTC(config).train()
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    mixer = rma.Mixup(per="row", p=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(4):
        waves = [torch.randn(samples).numpy() / 10 for samples in (16000, 12000, 9000, 8000)]
        inputs = dict(extractor(waves, sampling_rate=16000, padding=True, return_tensors="pt"))
        labels = torch.tensor([[5, 6, 7], [8, 9, -100], [3, 4, 5], [6, -100, -100]])
        inputs, plan = mix_inputs(model, inputs, mixer)
        loss, _ = mixed_loss(model, inputs, labels, plan)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
