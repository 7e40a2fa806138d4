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

import randommix_audio as rma
from randommix_audio import MixPlan
from randommix_audio.data import WaveBank
from recipes.an4.config import Config, make_mixer
from recipes.an4.recogniser import Shape, judge, scores_of
from recipes.an4.text import BLANK, Characters, characters_of
from recipes.an4.utterances import Batch, Utterances
from recipes.shared.buckets import batch_count, bucketed
from recipes.shared.console import UserError
from recipes.shared.trainer import Moment, Outcome

_SPEEDS = 2**33  # keeps these draws apart from those of the training steps and of the order


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
            split: Utterances(bank, split, self.front_end, self.characters, fabric.device, speeds)
            for split, speeds in (("train", config.speeds), ("validation", [1.0]), ("test", [1.0]))
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
        """The batches of this process in an epoch, of utterances of nearly equal length, each at one of the speeds."""
        train, speeds = self.splits["train"], len(self.config.speeds)
        generator = rma.step_generator(self.config.seed, _SPEEDS + epoch)
        places = torch.arange(len(train)) + len(train) * torch.randint(speeds, (len(train),), generator=generator)
        for some in bucketed(
            train.lengths[places],
            self.config.batch_size,
            self.config.seed,
            epoch,
            self.config.bucket_jitter,
            self.fabric.global_rank,
            self.fabric.world_size,
        ):
            yield train.batch(places[some])

    def plan(self, batch: Batch, moment: Moment) -> tuple[Tensor, MixPlan]:
        """Features (B, T, F) before mixing, masked where that comes first, and the plan of the mix."""
        generator = moment.generator
        x = batch.features
        if self.config.spec_augment_order == "before":
            x = self.config.spec_augment(x, batch.lengths, self.front_end.pad_value, generator)
        self.mixer.set_progress(moment.progress)
        plan = self.mixer.plan(x, lengths=batch.lengths, generator=generator, method_generator=moment.method_generator)
        return x, plan

    def step(self, network: nn.Module, batch: Batch, moment: Moment) -> Outcome:
        """CTC loss of one batch, weighted by the shares of the mixed utterances."""
        x, plan = self.plan(batch, moment)
        x = plan.apply(x)
        assert plan.lengths is not None
        if self.config.spec_augment_order == "after":
            x = self.config.spec_augment(x, plan.lengths, self.front_end.pad_value, moment.generator)
        log_probs, lengths = network(x, plan.lengths)
        loss = plan.ctc_loss(log_probs, batch.text, batch.text_lengths, lengths, blank=BLANK)
        return Outcome(loss, None, len(batch))

    def picture(self, rows: int = 4) -> Any:
        """A figure of the first utterances as half-way through the training: masked, their partners, and mixed."""
        from randommix_audio import viewing

        batch = next(self.batches(0))
        generator = rma.step_generator(self.config.seed, 0, device=self.fabric.device)
        x, plan = self.plan(batch, Moment(0, 0.5, generator))
        return viewing.show(
            x, plan, min(rows, len(batch)), batch.texts, front_end=self.front_end, lengths=batch.lengths
        )

    def evaluate(self, network: nn.Module, split: str) -> dict[str, Any]:
        """Scores of a split by greedy decoding, the same on every process; see `recogniser.scores_of`."""
        fabric, part = self.fabric, self.splits[split]
        own = torch.arange(len(part))[fabric.global_rank :: fabric.world_size]
        with fabric.autocast():
            rows = judge(network, part, own, self.config.batch_size, self.characters.greedy)
        return scores_of(self._gathered(rows), part)

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


def data_digest(bank: WaveBank) -> str:
    """A digest of all that training and testing read of a corpus; where it lies does not matter."""
    about = [bank.digest, bank.sample_rate, bank.labels, bank.splits]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
