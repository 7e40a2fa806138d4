"""Losses of a mixed batch against transcripts: CTC, attention and transducer. `MixPlan` offers them under these names.

The encoder runs once on the mixed batch; only the target side runs again, for the rows that are mixed at all, against
the transcripts of their partners (MixSpeech: Meng et al. 2021, "MixSpeech: Data augmentation for low-resource
automatic speech recognition", equation 3). B rows, K sources for each row, T' encoder frames, U tokens, V symbols.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

REDUCTIONS = ("mean", "batchmean", "sum", "none")
"""mean: of losses per token, as PyTorch takes it; batchmean: the batch's sum by its rows, as ESPnet and WeNet do."""


class MixedRows:
    """Which transcripts each row of a mixed batch is scored against, and how much each of them counts.

    Args:
        sources: (K, B) long.
        share: (K, B) float32, the weights of the sources' transcripts; columns sum to 1.
        mixed: (m,) long, rows that may have a share of another source; None: any row may.
        joined: (B,) bool, rows whose audio is followed by that of sources[1], and whose own transcript is too; None: no
            row.
    """

    def __init__(
        self, sources: Tensor, share: Tensor, mixed: Tensor | None = None, joined: Tensor | None = None
    ) -> None:
        self.sources, self.share, self.mixed, self.joined = sources, share, mixed, joined

    def total(self, per_row: "PerRow", encoded: Any) -> Tensor:
        """Share-weighted sum over the sources of what `per_row` gives.

        Args:
            per_row: Of (encoded, source, k): what the encoder gave for some rows, and their k-th sources, (b,) long,
                against whose transcripts they are scored; gives (b, ...) values.
            encoded: Tensors, or tuples, lists and dicts of tensors, with B rows first; the rest is passed on as it is.

        Returns:
            (B, ...) float32 or wider.
        """
        total = _weighted(per_row(encoded, self.sources[0], 0), self.share[0])
        for k in range(1, self.sources.shape[0]):
            source, share = self.sources[k], self.share[k]
            if self.mixed is None:
                total = total + _weighted(per_row(encoded, source, k), share)
            elif self.mixed.shape[0]:
                some = _rows(encoded, self.mixed, self.sources.shape[1])
                values = per_row(some, source.index_select(0, self.mixed), k)
                total = total.index_add(0, self.mixed, _weighted(values, share.index_select(0, self.mixed)))
        return total


PerRow = Callable[[Any, Tensor, int], Tensor]


class Transcripts:
    """The transcripts of a batch, and those of its rows as they are after mixing.

    Args:
        rows: Which rows are joined.
        target: (B, U) symbols.
        lengths: (B,); None where no row is joined and nobody asks for them.
        pad: What stands behind the end of a joined transcript.
        separator: See `join_transcripts`.
        eos: See `join_transcripts`.

    Raises:
        ValueError: If rows are joined and there are no lengths.
    """

    def __init__(
        self,
        rows: MixedRows,
        target: Tensor,
        lengths: Tensor | None,
        pad: int,
        separator: int | None = None,
        eos: int | None = None,
    ) -> None:
        self._plain = self._own = target, lengths
        if rows.joined is not None:
            if lengths is None:
                raise ValueError("this plan joins transcripts, which needs target_lengths")
            self._own = join_transcripts(target, lengths, rows.sources[1], rows.joined, pad, separator, eos)

    def of(self, source: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Symbols and lengths of the k-th sources; of the row itself as joined. Lengths are empty where not given."""
        if k == 0:  # every row, in the order of the batch
            target, lengths = self._own
            return target, source.new_empty(0) if lengths is None else lengths
        target, lengths = self._plain
        some = source.new_empty(0) if lengths is None else lengths.index_select(0, source)
        return target.index_select(0, source), some


def ctc_loss(
    rows: MixedRows,
    log_probs: Tensor,
    target: Tensor,
    target_lengths: Tensor,
    input_lengths: Tensor,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = True,
    separator: int | None = None,
) -> Tensor:
    """CTC loss of a mixed batch against the transcripts of its sources.

    Args:
        rows: Which transcripts count how much.
        log_probs: (B, T', V) log-probabilities of the encoder, batch first.
        target: (B, U) symbols, padded with anything.
        target_lengths: (B,) symbols of each transcript.
        input_lengths: (B,) valid encoder frames of the mixed rows.
        blank: The blank symbol.
        reduction: See `REDUCTIONS`; "none" gives (B,) losses, not divided by the tokens.
        zero_infinity: Losses of transcripts that do not fit into the frames count 0. On by default, because a row may
            be given a transcript that is longer than its own. What has no share in a row counts 0 in any case.
        separator: Symbol between the transcripts of joined rows, such as the space where symbols are characters; None:
            the partner's follows at once, as it may where tokens mark the beginnings of words themselves.

    Raises:
        ValueError: If a shape or the reduction is another.
    """
    _check(rows, reduction, log_probs=log_probs, target=target, lengths=target_lengths, input_lengths=input_lengths)
    transcripts = Transcripts(rows, target, target_lengths, blank, separator)

    def per_row(encoded: Any, source: Tensor, k: int) -> Tensor:
        frames, frame_lengths, shares = encoded
        symbols, lengths = transcripts.of(source, k)
        if not zero_infinity:  # the gradient of an infinite loss is NaN, also times a share of 0
            frames = frames.masked_fill((shares[:, k] == 0)[:, None, None], 0.0)
        values = F.ctc_loss(
            frames.transpose(0, 1),
            symbols,
            frame_lengths,
            lengths,
            blank,
            reduction="none",
            zero_infinity=zero_infinity,
        )
        return values / lengths.clamp(min=1).to(values.dtype) if reduction == "mean" else values

    return _reduced(rows.total(per_row, (log_probs, input_lengths, rows.share.T)), reduction)


def attention_loss(
    rows: MixedRows,
    decoder: Callable[[Any, Tensor], Tensor],
    encoded: Any,
    target: Tensor,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    target_lengths: Tensor | None = None,
    separator: int | None = None,
    eos: int | None = None,
) -> Tensor:
    """Cross entropy of a decoder that attends to a mixed batch: the encoder runs once, the decoder for each source.

    Args:
        rows: Which transcripts count how much.
        decoder: Of (encoded, target) for some rows: teacher-forced logits (b, U, V), where position u predicts
            `target[:, u]`; it shifts the target itself.
        encoded: What the decoder attends to; tensors with B rows first, or tuples, lists and dicts of them.
        target: (B, U) symbols, padded with `ignore_index`.
        ignore_index: Symbol that counts nothing.
        label_smoothing: See `torch.nn.functional.cross_entropy`.
        reduction: "mean" is the mean over tokens, as `cross_entropy` takes it, both sums weighted by the shares;
            "batchmean" the sum by the rows; "sum"; "none" gives (B,) sums over tokens.
        target_lengths: (B,) symbols of each transcript, `eos` included; needed where rows are joined.
        separator: Symbol between the transcripts of joined rows, such as the space where symbols are characters; None:
            the partner's follows at once, as it may where tokens mark the beginnings of words themselves.
        eos: Symbol at the end of each target; needed where rows are joined, because it stays at the end alone.

    Raises:
        ValueError: If a shape or the reduction is another, or rows are joined and their lengths or eos are missing.
    """
    _check(rows, reduction, target=target)
    if rows.joined is not None and eos is None:
        raise ValueError("this plan joins transcripts, which needs eos: the symbol that may stand at their end alone")
    transcripts = Transcripts(rows, target, target_lengths, ignore_index, separator, eos)

    def per_row(some: Any, source: Tensor, k: int) -> Tensor:
        wanted, _ = transcripts.of(source, k)
        logits = decoder(some, wanted)
        if logits.shape[:2] != wanted.shape:
            raise ValueError(
                f"the decoder gave logits of shape {tuple(logits.shape)} for targets {tuple(wanted.shape)}"
            )
        flat = F.cross_entropy(
            logits.flatten(0, 1).float(),
            wanted.flatten(),
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction="none",
        )
        losses = flat.view_as(wanted).sum(1)
        return torch.stack([losses, (wanted != ignore_index).sum(1).to(losses.dtype)], 1)

    losses, tokens = rows.total(per_row, encoded).unbind(1)
    return losses.sum() / tokens.sum() if reduction == "mean" else _reduced(losses, reduction)


def transducer_loss(
    rows: MixedRows,
    joint: Callable[[Any, Tensor], Tensor],
    encoded: Any,
    target: Tensor,
    target_lengths: Tensor,
    encoded_lengths: Tensor,
    blank: int = -1,
    reduction: str = "mean",
    criterion: Callable[..., Tensor] | None = None,
    separator: int | None = None,
) -> Tensor:
    """Transducer loss of a mixed batch: the encoder runs once, predictor and joint network for each source.

    Targets and logits are cut to the longest of the rows at hand, to know which the host waits for the device.

    Args:
        rows: Which transcripts count how much.
        joint: Of (encoded, target) for some rows, the target (b, u) as long as the longest of them: logits
            (b, T', u + 1, V).
        encoded: What the joint network reads; tensors with B rows first, or tuples, lists and dicts of them.
        target: (B, U) symbols.
        target_lengths: (B,) symbols of each transcript.
        encoded_lengths: (B,) valid encoder frames of the mixed rows.
        blank: The blank symbol; -1 is the last.
        reduction: "mean" or "batchmean" is the mean over rows, as torchaudio takes it; "sum"; "none" gives (B,).
        criterion: Of (logits, target, encoded_lengths, target_lengths, blank=, reduction="none"), the lengths int32;
            None is `torchaudio.functional.rnnt_loss`.
        separator: Symbol between the transcripts of joined rows, such as the space where symbols are characters; None:
            the partner's follows at once, as it may where tokens mark the beginnings of words themselves.

    Raises:
        ValueError: If a shape or the reduction is another.
        ImportError: If no criterion is given and torchaudio cannot be imported.
    """
    _check(rows, reduction, target=target, lengths=target_lengths, encoded_lengths=encoded_lengths)
    measure = _torchaudio_transducer_loss() if criterion is None else criterion
    transcripts = Transcripts(rows, target, target_lengths, 0, separator)

    def per_row(some: Any, source: Tensor, k: int) -> Tensor:
        inputs, lengths = some
        wanted, symbols = transcripts.of(source, k)
        # torchaudio refuses what is longer than its longest row, and the rows that are mixed need not hold that one.
        frames, longest = int(lengths.max()), int(symbols.max())
        wanted = wanted[:, :longest]
        logits = joint(inputs, wanted)[:, :frames].contiguous()
        return measure(logits, wanted.int().contiguous(), lengths.int(), symbols.int(), blank=blank, reduction="none")

    return _reduced(rows.total(per_row, (encoded, encoded_lengths)), reduction)


def join_transcripts(
    target: Tensor,
    target_lengths: Tensor,
    partner: Tensor,
    joined: Tensor,
    pad: int,
    separator: int | None = None,
    eos: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Write the partner's transcript behind the row's own, for the rows whose audio was joined too.

    Args:
        target: (B, U) symbols.
        target_lengths: (B,).
        partner: (B,) long, whose transcript follows.
        joined: (B,) bool, rows that are joined.
        pad: What stands behind the end.
        separator: Symbol between two transcripts that are not empty; None: nothing.
        eos: Symbol at the end of transcripts, which a joined one has at its end alone; None: they have none.

    Returns:
        (B, 2 U) symbols, (B, 2 U + 1) with a separator, and (B,) lengths.
    """
    width, gap = target.shape[1], 0 if separator is None else 1
    text = target_lengths
    if eos is not None:
        last = target.gather(1, (target_lengths - 1).clamp(min=0)[:, None].long())[:, 0]
        text = target_lengths - ((last == eos) & (target_lengths > 0)).to(target_lengths.dtype)
    own = torch.where(joined, text, target_lengths)
    between = gap * (joined & (text > 0) & (text[partner] > 0)).to(own.dtype)
    lengths = own + between + torch.where(joined, target_lengths[partner], 0)
    place = torch.arange(2 * width + gap, device=target.device)[None]
    both = torch.cat([target, target.new_full((target.shape[0], gap), separator or 0), target[partner]], 1)
    # Behind the row's own symbols: the separator and the partner's, or the partner's alone.
    behind = place - own[:, None] + width + gap - between[:, None]
    read = torch.where(place < own[:, None], place, behind).clamp(0, both.shape[1] - 1)
    return torch.where(place < lengths[:, None], both.gather(1, read), pad), lengths


def _torchaudio_transducer_loss() -> Callable[..., Tensor]:
    try:
        from torchaudio.functional import rnnt_loss
    except (ImportError, OSError, RuntimeError) as error:
        raise ImportError(
            "plan.transducer_loss needs a criterion, or a torchaudio that imports: "
            "pip install 'randommix_audio[torchaudio]'"
        ) from error
    return rnnt_loss  # type: ignore[no-any-return]


def _check(rows: MixedRows, reduction: str, **tensors: Tensor) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}")
    batch = rows.sources.shape[1]
    for name, value in tensors.items():
        axes = {"target": 2, "log_probs": 3}.get(name, 1)
        if value.ndim != axes or value.shape[0] != batch:
            wanted = {1: f"({batch},)", 2: f"({batch}, U)", 3: f"({batch}, T', V)"}[axes]
            raise ValueError(f"{name} must have shape {wanted}, got {tuple(value.shape)}")


def _reduced(per_row: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return per_row
    return per_row.sum() if reduction == "sum" else per_row.mean()


def _weighted(values: Tensor, share: Tensor) -> Tensor:
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    share = share.view(-1, *[1] * (values.ndim - 1)).to(values.dtype)
    return share * values.masked_fill(share == 0, 0.0)  # an infinite loss of a share of 0 is no loss


def _rows(encoded: Any, rows: Tensor, batch: int) -> Any:
    def pick(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim and value.shape[0] == batch:
            return value.index_select(0, rows)
        return value

    return tree_map(pick, encoded)
