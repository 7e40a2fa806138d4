"""Lhotse and icefall: mixing the batches of `K2SpeechRecognitionDataset` behind the loader, on the device.

batch = mix_k2_batch(batch, mixer)                          # compute_loss, while training
plan = batch["mix"]
loss = plan.ctc_loss(model.ctc_output(encoder_out), *pad_tokens(tokens, device), encoder_out_lens, reduction="sum")
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence

from randommix_audio.integrations._batches import require_layout
from randommix_audio.mixers import Mixer
from randommix_audio.transfer import to_device


def mix_k2_batch(batch: dict[str, Any], mixer: Mixer, generator: Generator | None = None) -> dict[str, Any]:
    """A batch of lhotse's K2SpeechRecognitionDataset with mixed inputs.

    Args:
        batch: "inputs", (B, T, F) features or (B, T) audio, and "supervisions" with one supervision for each cut, in
            the order of the cuts. Move "inputs" to the device first; what else goes there is not waited for.
        mixer: With layout="BTF" for features. Its `fill` should be lhotse's padding, `lhotse.utils.LOG_EPSILON`. These
            batches are sorted by duration, so that pairing="neighbour" mixes rows of nearly equal length.
        generator: See `Mixer.plan`.

    Returns:
        A new dict: "inputs" mixed, the number of frames (or samples) of each supervision as the mix has it, on the
        device of the inputs, "mix" the plan, and the rest as it was. Texts stay those of the rows themselves.

    Raises:
        ValueError: If a cut has none or several supervisions, or one that does not begin with the cut, or the mixer
            reads the inputs along other axes.
    """
    inputs, supervisions = batch["inputs"], batch["supervisions"]
    features = inputs.ndim == 3
    start, number = ("start_frame", "num_frames") if features else ("start_sample", "num_samples")
    require_layout(mixer, inputs, "BTF" if features else "BT", "lhotse")
    _require_one_supervision_each(supervisions, start, inputs.shape[0])
    lengths = supervisions[number]
    mixed, plan = mixer(inputs, lengths=lengths, generator=generator)
    moved = {name: to_device(supervisions[name], inputs.device) for name in ("sequence_idx", start)}
    supervisions = {**supervisions, **moved, number: plan.lengths.to(lengths.dtype)}
    return {**batch, "inputs": mixed, "supervisions": supervisions, "mix": plan}


def pad_tokens(tokens: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Token lists, as `sp.encode(texts)` gives them, for `plan.ctc_loss`.

    Args:
        tokens: A list for each row.
        device: Where to put them.

    Returns:
        (B, U) long, padded with 0, and (B,) long lengths.
    """
    rows = [torch.tensor(row, dtype=torch.long) for row in tokens]
    padded, lengths = pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])
    return to_device(padded, device), to_device(lengths, device)


def _require_one_supervision_each(supervisions: dict[str, Any], start: str, rows: int) -> None:
    index, first = supervisions["sequence_idx"], supervisions[start]
    if index.shape != (rows,):
        raise ValueError(f"each cut needs one supervision: got {index.shape[0]} supervisions of {rows} cuts")
    if (
        type(index) is Tensor
        and index.device.type == "cpu"
        and (not torch.equal(index.long(), torch.arange(rows)) or first.any())
    ):
        raise ValueError(
            f"each cut needs one supervision that begins with the cut: got sequence_idx {index.tolist()}, {start} "
            f"{first.tolist()}; use cuts.trim_to_supervisions()"
        )
