"""The training loop: one for all recipes, on Lightning Fabric.

Randomness is a function of (seed, step, rank) only, the learning rate a function of the step, and the state is stored
after every `store_every` epochs. So a run that was killed goes on from its last checkpoint and ends with the weights
and metrics of a run that nobody disturbed.

Order at the end of an epoch: the line in metrics.jsonl, then, where they are due, best.ckpt and last.ckpt. Only
last.ckpt counts: whatever else was written before a kill is cut off or written again with the same content.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

import randommix_audio as rma
from recipes.shared import records
from recipes.shared.console import Progress, UserError
from recipes.shared.optim import Average, learning_rate, make_optimizer
from recipes.shared.options import Training

LAST, BEST, METRICS, RESULTS = "last.ckpt", "best.ckpt", "metrics.jsonl", records.RESULTS
PICTURED_STEPS = 3  # the first steps of a run whose input TensorBoard shows


@dataclass
class Moment:
    """Where the training stands: what a step may depend on.

    Args:
        step: optimizer steps so far.
        progress: step over all steps, 0 to below 1.
        generator: of this step and this process, on the device.
        method_generator: of this step, alike on all processes; None where there is one alone.
        pictures: where the step may show its input, in the first steps; else None.
    """

    step: int
    progress: float
    generator: torch.Generator
    method_generator: torch.Generator | None = None
    pictures: SummaryWriter | None = None


@dataclass
class Outcome:
    """What one step gives back: the mean loss with its gradient, the mean accuracy (0 to 1), the number of rows.

    The accuracy is None in every step where a job has none, as in speech recognition.
    """

    loss: Tensor
    accuracy: Tensor | None
    rows: int


class Job(Protocol):
    """What is trained. The trainer knows nothing of audio or images."""

    steps_per_epoch: int
    rows_per_epoch: int
    about: dict[str, Any]  # labels, front end, ...: stored with every checkpoint; `data` is a digest of all clips

    def attach(self, module: nn.Module) -> None:
        """Take the model that is trained, once, before it is compiled or distributed: for hooks and passes of the job.

        The averaged weights were copied before, so that hooks stay out of the copy. A pass through this module talks to
        no other process.
        """

    def batches(self, epoch: int) -> Iterable[Any]:
        """The batches of this process in an epoch, the same ones whenever asked."""

    def step(self, network: nn.Module, batch: Any, moment: Moment) -> Outcome:
        """Loss of one batch; what it leaves in the gradients of the weights is added to that of the loss."""

    def validate(self, network: nn.Module) -> dict[str, float | None]:
        """Numbers of the validation set, validation_accuracy among them, equal on every process; None without clips."""


class Trainer:
    """Train a module on a job and keep the folder of the run.

    Args:
        fabric: device, precision, processes.
        options: how to train.
        module: the model; its initial weights are taken as they are.
        job: data and loss.
        folder: runs/<name>, made before.
        config: plain options of the run, stored with every checkpoint.
        compiled: run the training step's forward pass through torch.compile.
        snapshots: how many of the last epochs leave their weights in a file of their own, see `snapshot`.
    """

    def __init__(
        self,
        fabric: Fabric,
        options: Training,
        module: nn.Module,
        job: Job,
        folder: Path,
        config: dict[str, Any],
        compiled: bool = False,
        snapshots: int = 0,
    ) -> None:
        self.fabric, self.options, self.job, self.folder = fabric, options, job, Path(folder)
        self.snapshots = snapshots
        self.config = records.plain(config)
        self.commit = records.commit()
        self.main = fabric.global_rank == 0
        self.total_steps = options.epochs * job.steps_per_epoch
        self.module = module.to(fabric.device)
        self.average = None if options.ema_decay is None else Average(self.module, options.ema_decay)
        optimizer = make_optimizer(
            options.optimizer,
            self.module,
            options.lr,
            options.momentum,
            options.nesterov,
            options.weight_decay,
            options.decay_all,
        )
        job.attach(self.module)
        if compiled:
            torch.compiler.reset()  # compiled code does not look for hooks: that of an earlier model would be taken
        network = torch.compile(self.module) if compiled else self.module
        self.network, self.optimizer = fabric.setup(network, optimizer)
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.metrics_bytes = 0
        self.best: dict[str, Any] | None = None
        self.unstored: dict[str, Any] | None = None  # best.ckpt, until it is written

    @property
    def judged(self) -> nn.Module:
        """The model that is validated, tested and exported: the average where there is one."""
        return self.module if self.average is None else self.average.model

    def resume(self) -> bool:
        """Take up the state of last.ckpt, if there is one.

        Raises:
            UserError: where it was trained on other data, or by another number of processes.
        """
        path = self.folder / LAST
        if not path.is_file():
            return False
        state = records.load(path, self.fabric.device)
        self._refuse_other(state)
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._precision.load_state_dict(state["precision"])
        if self.average is not None:
            self.average.model.load_state_dict(state["average"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.metrics_bytes, self.best = state["metrics_bytes"], state["best"]
        return True

    def _refuse_other(self, state: dict[str, Any]) -> None:
        """Refuse to go on where the steps that are left would not be those of the run that was stopped."""
        refuse_other_data(self.folder, state, self.job.about)
        were, are = state.get("processes"), self.fabric.world_size
        if were not in (None, are):
            processes = "1 process" if were == 1 else f"{were} processes"
            raise UserError(
                f"{self.folder}: was trained by {processes}, not {are}; start as many, or give another --name"
            )
        steps = state.get("total_steps")
        if steps not in (None, self.total_steps):
            raise UserError(
                f"{self.folder}: is a training of {steps} steps, not {self.total_steps}; give another --name"
            )

    def fit(self) -> None:
        """Train the epochs that are left."""
        # Events behind the checkpoint belong to an epoch that is trained again: TensorBoard shall forget them.
        writer = SummaryWriter(str(self.folder), purge_step=self.step + 1 if self.step else 0) if self.main else None
        log = records.MetricsLog(self.folder / METRICS, self.metrics_bytes, active=self.main)
        rows = self.job.rows_per_epoch
        progress = Progress(rows * self.options.epochs, rows * self.epoch, shown=self.main)
        try:
            while self.epoch < self.options.epochs:
                line = self._epoch(writer, progress)
                log.append(line)
                self.metrics_bytes = log.size
                if writer is not None:
                    for name, value in line.items():
                        if name not in ("epoch", "step") and value is not None:
                            writer.add_scalar(name, value, self.step)
                    writer.flush()
                self._store(line)
                progress.say("  ".join(f"{name} {_short(value)}" for name, value in line.items() if value is not None))
        finally:
            progress.close()
            if writer is not None:
                writer.close()

    def _epoch(self, writer: SummaryWriter | None, progress: Progress) -> dict[str, Any]:
        started = time.perf_counter()
        torch.manual_seed(_epoch_seed(self.options.seed, self.epoch, self.fabric.global_rank))  # dropout
        self.network.train()
        sums = torch.zeros(3, device=self.fabric.device)
        scored = True
        for batch in self.job.batches(self.epoch):
            outcome = self._train_step(batch, writer)
            loss = outcome.loss.detach().float()
            scored = outcome.accuracy is not None
            accuracy = torch.zeros_like(loss) if outcome.accuracy is None else outcome.accuracy.detach().float()
            sums += torch.stack([loss * outcome.rows, accuracy * outcome.rows, loss.new_full((), outcome.rows)])
            progress.advance(outcome.rows * self.fabric.world_size)
        total_loss, hits, rows = self._sum(sums).tolist()
        spent = time.perf_counter() - started
        if not total_loss / rows < float("inf"):
            raise UserError(
                f"the training loss is {total_loss / rows} in epoch {self.epoch + 1}: lower --lr, or set --clip_norm"
            )
        self._share_buffers()
        validation = self.job.validate(self.judged)
        self.epoch += 1
        self.seconds += time.perf_counter() - started
        return {
            "epoch": self.epoch,
            "step": self.step,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": total_loss / rows,
            **({"train_accuracy": hits / rows} if scored else {}),
            **validation,
            "seconds": round(time.perf_counter() - started, 3),
            "clips_per_second": round(rows / spent, 1),
        }

    def _train_step(self, batch: Any, writer: SummaryWriter | None) -> Outcome:
        options, device = self.options, self.fabric.device
        warmup = round(options.warmup_epochs * self.job.steps_per_epoch)
        lr = learning_rate(self.step, self.total_steps, options.lr, warmup, options.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        moment = Moment(
            step=self.step,
            progress=self.step / self.total_steps,
            generator=rma.step_generator(options.seed, self.step, self.fabric.global_rank, device=str(device)),
            method_generator=rma.step_generator(options.seed, self.step, -1) if self.fabric.world_size > 1 else None,
            pictures=writer if self.step < PICTURED_STEPS else None,
        )
        self.optimizer.zero_grad(set_to_none=True)
        outcome = self.job.step(self.network, batch, moment)
        self.fabric.backward(outcome.loss)
        if options.clip_norm is not None:
            self.fabric.clip_gradients(
                self.network,
                self.optimizer,
                max_norm=options.clip_norm,
                error_if_nonfinite=False,  # the scaler of 16-mixed skips such a step; elsewhere the loss tells of it
            )
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.step)
        self.step += 1
        return outcome

    def _store(self, line: dict[str, Any]) -> None:
        """Keep this epoch where it is the best so far; unvalidated, the last is the best. Write what is due."""
        accuracy = line["validation_accuracy"]
        better = self.best is None or accuracy is None or accuracy > self.best["validation_accuracy"]
        if better:
            self.best = {"epoch": self.epoch, "validation_accuracy": accuracy}
        if self.main:
            due = self.epoch % self.options.store_every == 0 or self.epoch == self.options.epochs
            shared = {
                "epoch": self.epoch,
                "step": self.step,
                "best": self.best,
                "config": self.config,
                "commit": self.commit,
                "processes": self.fabric.world_size,
                "total_steps": self.total_steps,
                **self.job.about,
            }
            judged = {"model": self.judged.state_dict(), **shared}
            if better:
                self.unstored = judged if due else copy.deepcopy(judged)  # the weights go on changing
            if self.epoch > self.options.epochs - self.snapshots:
                records.save(judged, snapshot(self.folder, self.epoch))
            if due:
                self._write(shared)
        self.fabric.barrier()

    def _write(self, shared: dict[str, Any]) -> None:
        """Write best.ckpt where a better epoch came since it was written, then last.ckpt."""
        if self.unstored is not None:
            records.save(self.unstored, self.folder / BEST)
            self.unstored = None
        whole = {
            "model": self.module.state_dict(),
            "average": None if self.average is None else self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self._precision.state_dict(),
            "seconds": self.seconds,
            "metrics_bytes": self.metrics_bytes,
            **shared,
        }
        records.save(whole, self.folder / LAST)

    @property
    def _precision(self) -> Any:
        return self.fabric.strategy.precision  # holds the gradient scaler of 16-mixed

    def _sum(self, values: Tensor) -> Tensor:
        return self.fabric.all_reduce(values, reduce_op="sum") if self.fabric.world_size > 1 else values

    def _share_buffers(self) -> None:
        """Batch norm statistics differ between processes; the first one's are validated and stored."""
        if self.fabric.world_size > 1:
            for model in (self.module, self.judged):
                for buffer in model.buffers():
                    torch.distributed.broadcast(buffer, src=0)

    def checksums(self) -> list[float]:
        """Sum of all weights on each process: equal numbers, or the processes have drifted apart."""
        own = sum(float(p.detach().cpu().double().sum()) for p in self.module.parameters())
        if self.fabric.world_size == 1:
            return [own]
        everyone: list[float] = [0.0] * self.fabric.world_size
        torch.distributed.all_gather_object(everyone, own)
        return everyone


def snapshot(folder: Path, epoch: int) -> Path:
    """The file with the weights of one of the last epochs."""
    return folder / f"epoch-{epoch:04d}.ckpt"


def refuse_other_data(folder: Path, stored: dict[str, Any], about: dict[str, Any]) -> None:
    """Refuse a run of other clips than those of the job.

    Args:
        folder: of the run.
        stored: its checkpoint or results; those of the first version name no data and are taken.
        about: of the job.

    Raises:
        UserError: where the data differ.
    """
    if stored.get("data") not in (None, about["data"]):
        raise UserError(f"{folder}: was trained on other data; give another --name")


def _epoch_seed(seed: int, epoch: int, rank: int) -> int:
    return int(rma.step_generator(seed, 2**31 + epoch, rank).initial_seed()) % 2**63


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
