"""One step on each of several processes, started by torchrun: what becomes of a gradient that was kept.

The loss of the mixed clips counts for nothing here, so that after the step the gradient of the weights must be the mean
over the processes of what each of them kept. Arguments: task folder, an empty folder.
"""

import sys
from pathlib import Path

import torch

import randommix_audio as rma
from recipes.shared.trainer import Moment
from tests.recipes.test_methods import KEPT, first_step, trainer_of


def main() -> None:
    trainer = trainer_of(Path(sys.argv[1]), Path(sys.argv[2]), *KEPT, "--batch_size=5")
    fabric = trainer.fabric
    job, batch, _ = first_step(trainer)
    loss = job.step(trainer.network, batch, Moment(0, 0.0, rma.step_generator(0, 0, fabric.global_rank))).loss
    parameters = list(trainer.module.parameters())
    kept = [parameter.grad.clone() for parameter in parameters]
    fabric.backward(0 * loss)
    means = [fabric.all_reduce(one.clone(), reduce_op="mean") for one in kept]
    assert not any(torch.allclose(one, mean) for one, mean in zip(kept, means, strict=True) if one.any())
    for parameter, mean in zip(parameters, means, strict=True):
        torch.testing.assert_close(parameter.grad, mean)
    print(f"process {fabric.global_rank} of {fabric.world_size}: the mean", flush=True)


if __name__ == "__main__":
    main()
