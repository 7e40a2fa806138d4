"""What mixed rows cost in a CTC loss: `plan.ctc_loss`, forward and backward, beside the plain loss, in one run.

The rows that are mixed are scored against two transcripts, so that with half of them mixed 1.5 times the work of the
plain loss must be done. What the loss is given costs nothing here: an encoder makes the ratios smaller.
"""

import argparse
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import randommix_audio as rma
from benchmarks import timing
from benchmarks.timing import Work, ratio

SHARES = (0.0, 0.25, 0.5, 1.0)
SIZES = ((16, 100, 30), (32, 200, 30), (64, 400, 60))  # rows, frames, characters; the first is a batch of AN4
SYMBOLS = 29


class Batch:
    """Random logits and transcripts, and the losses of them.

    Args:
        rows: B.
        frames: T', frames of the encoder's output.
        characters: The longest transcript; the shortest has half as many.
        device: Where they are.
    """

    def __init__(self, rows: int, frames: int, characters: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        self.logits = torch.randn(rows, frames, SYMBOLS, generator=generator).to(device).requires_grad_()
        self.target = torch.randint(1, SYMBOLS, (rows, characters), generator=generator).to(device)
        self.target_lengths = torch.randint(characters // 2, characters + 1, (rows,), generator=generator).to(device)
        self.lengths = torch.full((rows,), frames, device=device)

    def plain(self) -> None:
        """The loss of PyTorch."""
        log_probs = self.logits.log_softmax(-1).transpose(0, 1)
        loss = F.ctc_loss(log_probs, self.target, self.lengths, self.target_lengths, zero_infinity=True)
        self._backward(loss)

    def mixed(self, share: float) -> None:
        """The loss of a batch of which this share of the rows is mixed; the plan is drawn anew."""
        mixer = rma.Mixup(per="row", p=share, layout="BTF")
        plan = mixer.plan(self.logits, self.lengths)
        log_probs = self.logits.log_softmax(-1)
        self._backward(plan.ctc_loss(log_probs, self.target, self.target_lengths, self.lengths))

    def _backward(self, loss: Tensor) -> None:
        torch.autograd.grad(loss, self.logits)


def measure(arguments: argparse.Namespace, device: torch.device) -> tuple[str, dict[str, Any]]:
    """A Markdown section and the same figures as plain values."""
    rows, facts = [], {}
    for size in SIZES:
        batch = Batch(*size, device)
        works: dict[str, Work] = {"plain": batch.plain}
        works |= {f"{share:g}": partial(batch.mixed, share) for share in SHARES}
        found = timing.time_together(works, device, arguments.rounds, seconds=0.2, quantile=arguments.quantile)
        costs = {name: ratio(found[name], found["plain"]) for name in works if name != "plain"}
        name = " x ".join(map(str, size))
        rows.append([name, f"{1000 * found['plain'].median:.2f}", *costs.values()])
        facts[name] = {name: times.seconds for name, times in found.items()}
    heads = ["rows x frames x characters", "plain, ms", *(f"{100 * share:g} % mixed" for share in SHARES)]
    about = f"{device}: time over that of the plain loss; {timing.kept(arguments.quantile)}, quartiles in brackets.\n"
    return f"{about}\n{timing.markdown_table(heads, rows)}", facts


def main() -> None:
    """Measure, print, and write a table and a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    timing.common_arguments(parser)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found = {str(device): measure(arguments, device) for device in timing.devices(arguments.device)}
    facts = timing.environment()
    texts = [text for text, _ in found.values()]
    sections = ["# What mixed rows cost in a CTC loss\n", timing.described(facts), *texts]
    facts |= {"devices": {device: values for device, (_, values) in found.items()}}
    timing.write(arguments.out, "ctc_cost", "\n".join(sections), facts)


if __name__ == "__main__":
    main()
