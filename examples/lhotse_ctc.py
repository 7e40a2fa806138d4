"""Lhotse, as icefall trains: batches of K2SpeechRecognitionDataset. Noise stands for your recordings."""

import tempfile

import soundfile
import torch
from lhotse import CutSet, Fbank, MonoCut, Recording, SupervisionSegment
from lhotse.dataset import K2SpeechRecognitionDataset, OnTheFlyFeatures, SimpleCutSampler
from lhotse.utils import LOG_EPSILON

import randommix_audio as rma
from randommix_audio.integrations.lhotse import mix_k2_batch, pad_tokens


def cut(folder: str, number: int) -> MonoCut:
    """A cut with one supervision."""
    soundfile.write(f"{folder}/{number}.wav", torch.randn(8000 + 1000 * number).numpy() / 10, 16000)
    recording = Recording.from_file(f"{folder}/{number}.wav")
    segment = SupervisionSegment(str(number), str(number), 0, recording.duration, text=f"{number} and")
    return MonoCut(str(number), 0, recording.duration, 0, supervisions=[segment], recording=recording)


def main() -> None:
    """Train for two batches."""
    mixer = rma.Mixup(layout="BTF", per="row", p=0.3, pairing="neighbour", fill=LOG_EPSILON)
    model = torch.nn.Linear(80, 128)
    with tempfile.TemporaryDirectory() as folder:
        cuts = CutSet.from_cuts(cut(folder, number) for number in range(8))
        dataset = K2SpeechRecognitionDataset(input_strategy=OnTheFlyFeatures(Fbank()))
        for names in SimpleCutSampler(cuts, max_cuts=4):
            batch = mix_k2_batch(dataset[names], mixer)
            log_probs, supervisions = model(batch["inputs"]).log_softmax(-1), batch["supervisions"]
            target, target_lengths = pad_tokens([[ord(letter) for letter in text] for text in supervisions["text"]])
            loss = batch["mix"].ctc_loss(log_probs, target, target_lengths, supervisions["num_frames"], reduction="sum")
            loss.backward()  # and a step of your optimiser
            print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
