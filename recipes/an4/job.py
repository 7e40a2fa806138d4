"""AN4 as a job for the trainer: batches of like lengths, SpecAugment, mixing, CTC."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from randommix_audio import MixPlan
from randommix_audio.data import WaveBank
from recipes.an4.config import Config, make_mixer
from recipes.an4.recogniser import Shape
from recipes.an4.text import BLANK, Characters, characters_of, errors, rates
from recipes.an4.utterances import Batch, Utterances
from recipes.shared.buckets import batch_count, bucketed
from recipes.shared.console import UserError
from recipes.shared.trainer import Moment, Outcome


class SpeechJob:
    """What the trainer asks for, for one corpus and one configuration.

    Args:
        config: the options.
        bank: a prepared corpus.
        fabric: device and processes.

    Raises:
        UserError: where options and corpus do not fit.
    """

    def __init__(self, config: Config, bank: WaveBank, fabric: Fabric) -> None:
        self.config, self.bank, self.fabric = config, bank, fabric
        self.shape = Shape(
            characters=characters_of(bank.labels),
            preset=config.preset,
            front_end={"sample_rate": bank.sample_rate, **config.front_end},
            width=config.width,
            blocks=config.blocks,
            kernel=config.kernel,
            dropout=config.dropout,
        )
        self.front_end = self.shape.make_front_end().to(fabric.device)
        if self.front_end.sample_rate != bank.sample_rate:
            raise UserError(
                f"front_end.sample_rate is {self.front_end.sample_rate}, but the corpus has {bank.sample_rate}"
            )
        self.characters = Characters(self.shape.characters)
        self.mixer = make_mixer(config, self.front_end.pad_value)
        self.splits = {
            split: Utterances(bank, split, self.front_end, self.characters, fabric.device)
            for split in ("train", "validation", "test")
        }
        clips = len(self.splits["train"])
        self.steps_per_epoch = batch_count(clips, config.batch_size, fabric.world_size)
        if self.steps_per_epoch == 0:
            raise UserError(f"{config.data}: has {clips} training utterances for {fabric.world_size} processes")
        self.rows_per_epoch = clips
        self.about: dict[str, Any] = {"shape": dataclasses.asdict(self.shape), "data": data_digest(bank)}

    def attach(self, module: nn.Module) -> None:
        """Nothing of this job hangs on the model."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of this process in an epoch, of utterances of nearly equal length."""
        train = self.splits["train"]
        for places in bucketed(
            train.lengths,
            self.config.batch_size,
            self.config.seed,
            epoch,
            self.config.bucket_jitter,
            self.fabric.global_rank,
            self.fabric.world_size,
        ):
            yield train.batch(places)

    def mix(self, batch: Batch, moment: Moment) -> tuple[Tensor, MixPlan]:
        """Masked and mixed features (B, T, F) of a step, and the plan of the mix."""
        fill, before = self.front_end.pad_value, self.config.spec_augment_order == "before"
        mask, x = self.config.spec_augment, batch.features
        self.mixer.set_progress(moment.progress)
        if before:
            x = mask(x, batch.lengths, fill, moment.generator)
        plan = self.mixer.plan(x, lengths=batch.lengths, generator=moment.generator)
        mixed = plan.apply(x)
        assert plan.lengths is not None
        return (mixed if before else mask(mixed, plan.lengths, fill, moment.generator)), plan

    def step(self, network: nn.Module, batch: Batch, moment: Moment) -> Outcome:
        """CTC loss of one batch, weighted by the shares of the mixed utterances."""
        x, plan = self.mix(batch, moment)
        log_probs, lengths = network(x, plan.lengths)
        loss = plan.ctc_loss(log_probs, batch.text, batch.text_lengths, lengths, blank=BLANK)
        return Outcome(loss, None, len(batch))

    def evaluate(self, network: nn.Module, split: str) -> dict[str, Any]:
        """Error rates, loss and transcripts of a split, the same on every process.

        Returns:
            See `text.rates`, and loss (mean over utterances of CTC per character, None without any) and
            transcripts: key, reference, hypothesis and the counts of each utterance, in the order of the corpus.
        """
        fabric, part = self.fabric, self.splits[split]
        network.eval()
        found: list[dict[str, Any]] = []
        own = torch.arange(len(part))[fabric.global_rank :: fabric.world_size]
        with torch.no_grad(), fabric.autocast():
            for places in own.split(self.config.batch_size):
                batch = part.batch(places)
                log_probs, lengths = network(batch.features, batch.lengths)
                losses = ctc(log_probs, batch, lengths)
                for place, said, loss in zip(
                    places.tolist(), self.characters.greedy(log_probs, lengths), losses.tolist(), strict=True
                ):
                    reference = part.texts[place]
                    counts = errors(reference, said)
                    found.append(
                        {"key": part.keys[place], "reference": reference, "hypothesis": said, "loss": loss, **counts}
                    )
        found = self._gathered(found)
        found.sort(key=lambda row: part.place[row["key"]])
        losses_of_all = [row.pop("loss") for row in found]
        loss = sum(losses_of_all) / len(found) if found else None
        return {"loss": loss, **rates(found), "transcripts": found}

    def _gathered(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self.fabric.world_size == 1:
            return rows
        everyone: list[list[dict[str, Any]]] = [[] for _ in range(self.fabric.world_size)]
        torch.distributed.all_gather_object(everyone, rows)
        return [row for part in everyone for row in part]

    def validate(self, network: nn.Module) -> dict[str, float | None]:
        """What metrics.jsonl says of the validation set; the accuracy of words is 1 - WER."""
        found = self.evaluate(network, "validation")
        wer = found["wer"]
        return {
            "validation_loss": found["loss"],
            "validation_accuracy": None if wer is None else 1 - wer,
            "validation_wer": wer,
            "validation_cer": found["cer"],
        }


def ctc(log_probs: Tensor, batch: Batch, lengths: Tensor) -> Tensor:
    """(B,) CTC losses per character of utterances that are not mixed."""
    losses = F.ctc_loss(
        log_probs.transpose(0, 1), batch.text, lengths, batch.text_lengths, BLANK, reduction="none", zero_infinity=True
    )
    return losses / batch.text_lengths.clamp(min=1)


def data_digest(bank: WaveBank) -> str:
    """A digest of all that training and testing read of a corpus; where it lies does not matter."""
    about = [bank.digest, bank.sample_rate, bank.labels, bank.splits]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
