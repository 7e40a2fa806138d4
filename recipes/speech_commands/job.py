"""Speech Commands as a job for the trainer: batches from the bank, augmentation, log-mel, mixing, loss."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

import randommix_audio as rma
from randommix_audio import MixPlan
from randommix_audio.data import BankLoader, Batch, Task
from randommix_audio.hidden import Hidden, HiddenPlan
from randommix_audio.hidden.plan import INPUT
from randommix_audio.saliency import LossGradient, Saliency
from recipes.shared import scores
from recipes.shared.console import UserError
from recipes.shared.trainer import Moment, Outcome
from recipes.speech_commands.augment import Augmenter, as_float
from recipes.speech_commands.config import LAYERS, Config, make_mixer
from recipes.speech_commands.recogniser import Shape, judge

KEPT_BYTES = 2**30  # features of a split up to this size are computed once and kept on the device


class KeywordJob:
    """What the trainer asks for, for one task and one configuration.

    Args:
        config: the options.
        task: a prepared corpus.
        fabric: device and processes.

    Raises:
        UserError: where options and corpus do not fit.
    """

    def __init__(self, config: Config, task: Task, fabric: Fabric) -> None:
        self.config, self.task, self.fabric = config, task, fabric
        rate = task.bank.sample_rate
        self.shape = Shape(
            labels=list(task.labels),
            preset=config.preset,
            front_end={"sample_rate": rate, **config.front_end},
            width=config.width,
            dropout=config.dropout,
            samples=task.bank.samples,
            pad=task.metadata.get("settings", {}).get("pad", "end"),
        )
        self.front_end = self.shape.make_front_end().to(fabric.device)
        if self.front_end.sample_rate != rate:
            raise UserError(f"front_end.sample_rate is {self.front_end.sample_rate}, but the clips have {rate}")
        self.mixer = make_mixer(config, self.front_end.pad_value)
        self.hidden: Hidden | None = None
        self.bare: nn.Module | None = None
        noise = [torch.from_numpy(task.noise[i].copy()) for i in range(len(task.noise))] if task.noise else []
        self.augmenter = Augmenter(config.augment, rate, noise, fabric.device)
        self.loader = BankLoader(
            task.split("train"),
            config.batch_size,
            seed=config.seed,
            device=fabric.device,
            workers=config.workers,
            resident={"auto": "auto", "yes": True, "no": False}[config.resident],  # type: ignore[arg-type]
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        if len(self.loader) == 0:
            raise UserError(f"{config.data}: has no training clips")
        self.steps_per_epoch = len(self.loader)
        self.rows_per_epoch = len(task.split("train"))
        self.about: dict[str, Any] = {
            "shape": dataclasses.asdict(self.shape),
            "task": task.metadata,
            "data": data_digest(task),
        }
        self._kept: dict[str, list[tuple[Tensor, Tensor]]] = {}
        # Without changes to the waveforms these are the same ones in every epoch, and so are their features.
        self.keeps_features = not self.augmenter.changes_waves and self._bytes("train") <= KEPT_BYTES

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of this process in an epoch; without waveforms (B, 0) where the features are kept."""
        if not self.keeps_features:
            yield from self.loader.epoch(epoch)
            return
        _, target, silence = self._train
        for rows in self.loader.rows(epoch):
            at = rows.to(self.fabric.device)
            nothing = torch.zeros(len(rows), 0, dtype=torch.int16, device=at.device)
            lengths = torch.full_like(at, self.shape.samples)
            yield Batch(nothing, lengths, target[at], silence[at], at)

    @torch.no_grad()
    def prepare(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Augmented log-mel features (B, 1, F, T) of a batch, not mixed yet."""
        if self.keeps_features:
            x = self._train[0][batch.index, 0]
        else:
            x = self.front_end(self.augmenter.wave(as_float(batch.wave), generator))
        return self.augmenter.features(x, generator, self.front_end.pad_value)[:, None]

    def attach(self, module: nn.Module) -> None:
        """Take the model that is trained: its hidden layers are mixed, and its gradient says what is salient."""
        if self.config.hidden_layers is not None:
            self.hidden = self.mixer.attach(module, self.config.hidden_layers)
        self.bare = torch.compile(module) if self.config.compile else module  # type: ignore[assignment]

    def mix(self, x: Tensor, batch: Batch, moment: Moment) -> MixPlan | HiddenPlan:
        """Draw the plan of a step; one for hidden layers is carried out by the model itself.

        Where the gradient of the clean loss is kept, it is in the gradients of the weights afterwards.
        """
        self.mixer.set_progress(moment.progress)
        rows = None if self.config.mix_silence else ~batch.silence
        saliency = self._saliency(batch, self.config.keep_gradient)
        with self.fabric.autocast():
            if self.hidden is None:
                return self.mixer.plan(x, rows=rows, generator=moment.generator, saliency=saliency)
            return self.hidden.draw(x, rows=rows, generator=moment.generator, saliency=saliency)

    def _saliency(self, batch: Batch, keep: float = 0.0) -> Saliency | None:
        """What the methods follow, computed only if the method that is drawn follows it."""
        if self.config.followed_saliency != "gradient":
            return self.config.followed_saliency
        assert self.bare is not None
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)  # 16-mixed has one
        return LossGradient(
            self.bare, self._criterion, batch.target, keep=keep, scale=None if scaler is None else scaler.scale
        )

    @property
    def _criterion(self) -> Callable[..., Tensor]:
        return partial(F.cross_entropy, label_smoothing=self.config.label_smoothing)

    def step(self, network: nn.Module, batch: Batch, moment: Moment) -> Outcome:
        """Loss and accuracy of one batch, both weighted by the shares of the mixed clips."""
        x = self.prepare(batch, moment.generator)
        plan = self.mix(x, batch, moment)
        if moment.pictures is not None:
            show_input(moment.pictures, x, plan, moment.step)
        logits = network(plan.apply(x) if isinstance(plan, MixPlan) else x)
        loss = plan.loss(self._criterion, logits, batch.target)
        return Outcome(loss, plan.accuracy(logits.detach(), batch.target), len(batch))

    def galleries(self, rows: int = 8) -> dict[str, Any]:
        """Pictures of the first batch: `mixes` as half-way through training, `methods` each method on two clips.

        Methods that mix hidden layers are left out; they have no picture.
        """
        from randommix_audio import viewing

        generator = rma.step_generator(self.config.seed, 0, device=self.fabric.device)
        batch = next(self.batches(0))
        x = self.prepare(batch, generator)
        names = [self.task.labels[i] for i in batch.target.tolist()]
        shown = [method for method in self.config.methods if method not in LAYERS]
        figures = {}
        self.mixer.set_progress(0.5)
        allowed = None if self.config.mix_silence else ~batch.silence
        plan = self.mixer.plan(x, rows=allowed, generator=generator, saliency=self._saliency(batch))
        drawn = {plan.method} if isinstance(plan.method, str) else set(plan.method)
        if not drawn & LAYERS.keys():
            figures["mixes"] = viewing.show(x, plan, min(rows, len(names)), names, front_end=self.front_end)
        spoken = (~batch.silence).nonzero().flatten().tolist()[:2]
        if shown not in ([], ["none"]) and len(spoken) == 2:
            own, partner = spoken
            pair = (names[own], names[partner])
            figures["methods"] = viewing.gallery(x[own], x[partner], pair, shown, front_end=self.front_end)
        return figures

    def features(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of a split as (features (B, 1, F, T), targets (B,)), without augmentation."""
        fabric = self.fabric
        share = self._all_features(split, rank=fabric.global_rank, world_size=fabric.world_size)
        if self._bytes(split) > KEPT_BYTES:
            yield from share
            return
        if split not in self._kept:
            self._kept[split] = list(share)
        yield from self._kept[split]

    @cached_property
    def _train(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, 1, F, T), targets (N,) and silence (N,) of the training set, on the device."""
        entries, device = self.task.split("train"), self.fabric.device
        features = torch.cat([x for x, _ in self._all_features("train")])
        return features, entries.target.to(device), entries.silence.to(device)

    def _all_features(self, split: str, rank: int = 0, world_size: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        entries, device = self.task.split(split), self.fabric.device
        loader = BankLoader(
            entries,
            self.config.batch_size,
            device=device,
            resident=False,
            shuffle=False,
            rank=rank,
            world_size=world_size,
        )
        for batch in loader.epoch(0):
            yield self.front_end(batch.wave)[:, None], batch.target

    def _bytes(self, split: str) -> int:
        """Size of the features of a split."""
        frames = self.front_end.frames(self.shape.samples)
        return len(self.task.split(split)) * self.front_end.n_mels * frames * 4

    def evaluate(self, network: nn.Module, split: str) -> dict[str, Any]:
        """All scores of a split, the same on every process."""
        classes = len(self.task.labels)
        with self.fabric.autocast():
            matrix, loss = judge(network, self.features(split), classes)
        matrix, loss = matrix.to(self.fabric.device), loss.to(self.fabric.device)
        if self.fabric.world_size > 1:
            matrix = self.fabric.all_reduce(matrix, reduce_op="sum")
            loss = self.fabric.all_reduce(loss, reduce_op="sum")
        report = scores.report(matrix.cpu(), self.task.labels)
        return {"loss": float(loss) / report["clips"] if report["clips"] else None, **report}

    def validate(self, network: nn.Module) -> dict[str, float | None]:
        """What metrics.jsonl says of the validation set."""
        found = self.evaluate(network, "validation")
        return {f"validation_{name}": found[name] for name in ("loss", "accuracy", "macro_accuracy")}


def data_digest(task: Task) -> str:
    """A digest of everything that training and testing read of a task; where the task lies does not matter."""
    bank = task.bank
    about = [bank.digest, bank.sample_rate, bank.samples, task.labels, task.metadata.get("settings", {}).get("pad")]
    digest = hashlib.sha256(json.dumps(about).encode())
    for name, entries in sorted(task.entries.items()):
        digest.update(f"{name} {len(entries)}".encode())
        for column in (entries.clip, entries.target, entries.silence, entries.noise_offset, entries.noise_gain):
            digest.update(column.numpy().tobytes())
    if task.noise is not None:
        digest.update(np.ascontiguousarray(task.noise.samples).tobytes() + task.noise.starts.tobytes())
    return digest.hexdigest()


def show_input(writer: SummaryWriter, x: Tensor, plan: MixPlan | HiddenPlan, step: int) -> None:
    """Show TensorBoard what a step does to its input; a mix of a hidden layer has no picture and is named."""
    if isinstance(plan, HiddenPlan) and plan.layer not in (None, INPUT):
        writer.add_text("own, partner, mixed", f"no picture: the output of {plan.layer} was mixed", step)
        return
    plan = plan.plan if isinstance(plan, HiddenPlan) else plan
    writer.add_image("own, partner, mixed", contact_sheet(x, plan), step)


def contact_sheet(x: Tensor, plan: MixPlan, rows: int = 8) -> Tensor:
    """Spectrograms side by side for TensorBoard: the clips above, what is mixed in below, the mixes at the bottom.

    Args:
        x: (B, 1, F, T) features before mixing.
        plan: of this batch.
        rows: how many clips of the batch.

    Returns:
        (1, (K + 1) F, rows T) in 0..1 for the K sources of a clip, low frequencies at the bottom of each.
    """
    sources = [plan.pair(x, k) for k in range(len(plan.sources))]
    kinds = torch.stack([*sources, plan.apply(x)])[:, :rows, 0].flip(2)  # (K + 1, rows, F, T)
    low, high = kinds.aminmax()
    scaled = (kinds - low) / (high - low).clamp(min=1e-6)
    return scaled.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)[None]
