"""Hugging Face transformers: CTC (Wav2Vec2, HuBERT, WavLM ...), Whisper and audio classifiers on mixed batches.

    class MixTrainer(RandomMixTrainerMixin, Trainer): ...
    MixTrainer(model, args, mixer=rma.Mixup(per="row", p=0.3), ...).train()

or in a loop of your own

    inputs, plan = mix_inputs(model, inputs, mixer)
    loss, outputs = mixed_loss(model, inputs, labels, plan)

Models are never given soft labels, nor labels at all: a model for classification takes a float label for a multi-label
task and silently changes its loss, and a CTC or sequence-to-sequence model cannot take two transcripts.
"""

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from randommix_audio.integrations._batches import StepGenerator, require_layout
from randommix_audio.mixers import Mixer
from randommix_audio.plan import MixPlan


def mix_inputs(
    model: nn.Module, inputs: dict[str, Any], mixer: Mixer, generator: Generator | None = None
) -> tuple[dict[str, Any], MixPlan]:
    """Mix the inputs of a model.

    Args:
        model: A model of transformers; its configuration tells the axes of its features.
        inputs: "input_values" or "input_features", and perhaps "attention_mask" (B, T), 1 in valid frames or samples
            and 0 behind them.
        mixer: For waveforms and for Whisper with its default layout, for AST and Wav2Vec2-BERT with layout="BTF".
        generator: See `Mixer.plan`.

    Returns:
        A new dict with the mixed input and, where there was one, the mask of the mix; and the plan.

    Raises:
        ValueError: If there is no such input, or the mixer reads it along other axes.
    """
    name = next((key for key in ("input_features", "input_values") if key in inputs), None)
    if name is None:
        raise ValueError(f"expected input_features or input_values among the inputs, got {', '.join(inputs)}")
    x, mask = inputs[name], inputs.get("attention_mask")
    if layout := _layout_of(x, unwrapped(model).config):
        require_layout(mixer, x, layout, type(unwrapped(model)).__name__)
    mixed, plan = mixer(x, lengths=None if mask is None else mask.sum(-1), generator=generator)
    inputs = {**inputs, name: mixed}
    if mask is not None:
        frames = torch.arange(mixed.shape[plan.layout.index("T")], device=mask.device)
        inputs["attention_mask"] = (frames < plan.lengths[:, None]).to(mask.dtype)
    return inputs, plan


def mixed_loss(
    model: nn.Module,
    inputs: dict[str, Any],
    labels: Tensor,
    plan: MixPlan,
    label_smoothing: float = 0.0,
    separator: int | None = None,
) -> tuple[Tensor, Any]:
    """The loss of a model for a mixed batch, a mean (or what the configuration of a CTC model says) over this batch.

    The model, which may be wrapped by DistributedDataParallel, runs once. Of Whisper, the decoder runs again for the
    mixed rows.

    Args:
        model: `...ForCTC`, a speech-to-text model with encoder and decoder, or `...ForAudioClassification` and the
            like.
        inputs: From `mix_inputs`, without labels.
        labels: As the model takes them: (B, U) padded with -100, or (B,) classes, or (B, C) float for several classes.
        plan: From `mix_inputs`.
        label_smoothing: For all but CTC.
        separator: Symbol between joined transcripts with CTC, such as `tokenizer.word_delimiter_token_id`; see
            `randommix_audio.sequences.ctc_loss`.

    Returns:
        The loss, and the model's outputs.

    Raises:
        ValueError: If the model does regression, or label smoothing is asked for with CTC.
    """
    inner = unwrapped(model)
    if inner.config.is_encoder_decoder:
        return _attention_loss(model, inputs, labels, plan, label_smoothing)
    if any(base.__name__.endswith("ForCTC") for base in type(inner).__mro__):
        if label_smoothing:
            raise ValueError(f"label smoothing is not for CTC, got {label_smoothing}")
        return _ctc_loss(model, inputs, labels, plan, separator)
    outputs = model(**inputs)
    if inner.config.num_labels == 1 or inner.config.problem_type == "regression":
        raise ValueError(f"{type(inner).__name__} does regression, for which there is no mixed loss")
    if labels.is_floating_point():
        return plan.loss(F.binary_cross_entropy_with_logits, outputs.logits, labels), outputs
    return plan.loss(F.cross_entropy, outputs.logits, labels, label_smoothing=label_smoothing), outputs


class RandomMixTrainerMixin:
    """Mixes each training batch of a Trainer on the device: `class MixTrainer(RandomMixTrainerMixin, Trainer)`.

    Evaluation is the Trainer's own. The loss is a mean over the batch, which the Trainer divides by the number of
    gradient accumulation steps. Each optimiser step has its own generator, made of `args.seed`, step and process, so
    that a resumed run mixes what an undisturbed one would. `args.label_smoothing_factor` is kept. A schedule of the
    mixer's `p` follows the training.

    Args:
        *args: For the Trainer.
        mixer: Any mixer; for transcripts one that keeps both of them audible.
        separator: See `mixed_loss`.
        **kwargs: For the Trainer.

    Raises:
        ValueError: If the Trainer has a `compute_loss_func`, which cannot know of two labels.
    """

    def __init__(self, *args: Any, mixer: Mixer, separator: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        trainer: Any = self
        if trainer.compute_loss_func is not None:
            raise ValueError("compute_loss_func is given one label for each row: a mixed batch has two; leave it out")
        # Else the Trainer takes the loss for one that is divided by the labels of all accumulated batches.
        trainer.model_accepts_loss_kwargs = False
        self.mixer, self.separator = mixer, separator
        self._mix_generators = StepGenerator()

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """See `transformers.Trainer.compute_loss`."""
        trainer: Any = self
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        step, args = trainer.state.global_step, trainer.args
        self.mixer.set_progress(min(1.0, step / max(1, trainer.state.max_steps)))
        generator = self._mix_generators.of(args.seed, step, args.process_index)
        inputs, plan = mix_inputs(model, inputs, self.mixer, generator)
        loss, outputs = mixed_loss(model, inputs, labels, plan, args.label_smoothing_factor, self.separator)
        return (loss, outputs) if return_outputs else loss


def unwrapped(model: Any) -> Any:
    """The model inside torch.compile, DistributedDataParallel and PEFT."""
    for wrapper in ("_orig_mod", "module", "_orig_mod"):
        model = getattr(model, wrapper, model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _layout_of(x: Tensor, config: Any) -> str | None:
    """The axis order of a model's input; None where its configuration does not tell."""
    if x.ndim == 2:
        return "BT"
    bins = getattr(config, "num_mel_bins", None) or getattr(config, "feature_projection_input_dim", None)
    second, last = x.shape[1] == bins, x.shape[2] == bins
    if second == last:
        return None
    return "BFT" if second else "BTF"


def _ctc_loss(
    model: nn.Module, inputs: dict[str, Any], labels: Tensor, plan: MixPlan, separator: int | None
) -> tuple[Tensor, Any]:
    inner = unwrapped(model)
    blank = inner.config.pad_token_id
    outputs = model(**inputs)
    x = inputs["input_values"] if "input_values" in inputs else inputs["input_features"]
    valid = torch.full((x.shape[0],), x.shape[1], device=x.device) if plan.lengths is None else plan.lengths
    loss = plan.ctc_loss(
        outputs.logits.log_softmax(-1, dtype=torch.float32),
        labels.clamp(min=0),
        ((labels >= 0) & (labels != blank)).sum(-1),  # some collators pad with the blank symbol
        inner._get_feat_extract_output_lengths(valid).long(),
        blank=blank,
        reduction=inner.config.ctc_loss_reduction,
        separator=separator,
    )
    return loss, outputs


def _attention_loss(
    model: nn.Module, inputs: dict[str, Any], labels: Tensor, plan: MixPlan, label_smoothing: float
) -> tuple[Tensor, Any]:
    inner = unwrapped(model)
    # A collator may have made the decoder's inputs of the rows' own labels.
    inputs = {name: value for name, value in inputs.items() if not name.startswith("decoder_")}
    outputs = model(**inputs, decoder_input_ids=_shifted(labels, inner.config), use_cache=False)
    answered = iter([outputs.logits])

    def decode(encoded: tuple[Tensor, Tensor | None], target: Tensor) -> Tensor:
        # First all rows are asked for their own transcripts, which the model has answered already. The second pass goes
        # round the wrapper: processes may have different numbers of mixed rows, and no gradient is lost by it.
        logits = next(answered, None)
        if logits is None:
            hidden, mask = encoded
            shifted = _shifted(target, inner.config)
            logits = inner(
                encoder_outputs=(hidden,), attention_mask=mask, decoder_input_ids=shifted, use_cache=False
            ).logits
        return logits

    encoded = outputs.encoder_last_hidden_state, inputs.get("attention_mask")
    return plan.attention_loss(decode, encoded, labels, label_smoothing=label_smoothing), outputs


def _shifted(labels: Tensor, config: Any) -> Tensor:
    """What the decoder reads: the labels moved one place to the right, behind the start symbol."""
    before = F.pad(labels[:, :-1], (1, 0), value=config.decoder_start_token_id)
    return before.masked_fill(before == -100, config.pad_token_id)
