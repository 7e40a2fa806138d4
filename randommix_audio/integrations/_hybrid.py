"""The loss of a CTC and attention model, as ESPnet defined it and WeNet took it over, for a mixed batch.

Watanabe et al. 2017, "Hybrid CTC/attention architecture for end-to-end speech recognition", equation 25.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from randommix_audio.plan import MixPlan


def ctc_branch(
    plan: MixPlan, model: Any, encoded: Tensor, lengths: Tensor, text: Tensor, text_lengths: Tensor
) -> Tensor:
    """`model.ctc` for a mixed batch: the sum over rows divided by their number, as it takes it.

    Args:
        plan: Of the batch.
        model: With `ctc.ctc_lo`, `ctc.dropout_rate` and the blank symbol 0.
        encoded: (B, T', D).
        lengths: (B,) frames of it.
        text: (B, U), padded with a negative symbol.
        text_lengths: (B,).
    """
    logits = model.ctc.ctc_lo(F.dropout(encoded, model.ctc.dropout_rate, model.training))
    log_probs = logits.log_softmax(-1, dtype=torch.float32)
    return plan.ctc_loss(log_probs, text.clamp(min=0), text_lengths, lengths, reduction="batchmean")


def attention_branch(
    plan: MixPlan,
    model: Any,
    decoder: Callable[[Any, Tensor, Tensor], Tensor],
    encoded: Any,
    text: Tensor,
    text_lengths: Tensor,
) -> Tensor:
    """`model.criterion_att` of the decoder's logits for a mixed batch.

    Label smoothing has the same gradient; the value lacks the smoothed labels' own entropy, a constant for each token.

    Args:
        plan: Of the batch.
        model: With `sos`, `eos`, `ignore_id`, `vocab_size` and `criterion_att`.
        decoder: Of (encoded, (b, U + 1) symbols that it reads, (b,) their number), giving logits (b, U + 1, V).
        encoded: What the decoder attends to; tensors with B rows first.
        text: (B, U).
        text_lengths: (B,).
    """
    criterion, ignored = model.criterion_att, model.ignore_id

    def decode(some: Any, target: Tensor) -> Tensor:
        read = F.pad(target[:, :-1], (1, 0), value=model.sos)
        return decoder(some, read.masked_fill(read == ignored, model.eos), (target != ignored).sum(1))

    place = torch.arange(text.shape[1] + 1, device=text.device)
    ends = text_lengths[:, None]
    spoken = F.pad(text, (0, 1), value=ignored).masked_fill(place >= ends, ignored)
    return plan.attention_loss(
        decode,
        encoded,
        torch.where(place == ends, model.eos, spoken),
        ignore_index=ignored,
        label_smoothing=criterion.smoothing * model.vocab_size / (model.vocab_size - 1),
        reduction="mean" if criterion.normalize_length else "batchmean",
    )


def weighed(ctc_weight: float, ctc: Tensor | None, attention: Tensor | None) -> Tensor:
    """The two branches together; a branch of weight 0 is None."""
    parts = [weight * loss for weight, loss in ((ctc_weight, ctc), (1 - ctc_weight, attention)) if loss is not None]
    return torch.stack(parts).sum()
