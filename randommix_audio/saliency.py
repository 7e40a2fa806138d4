"""Which parts of a batch matter: saliency maps (B, F, T) for the methods that follow them."""

from collections.abc import Callable

import torch
from torch import Tensor

from randommix_audio.layout import to_bcft

Saliency = Tensor | Callable[[Tensor], Tensor]


class SaliencyOfBatch:
    """The saliency of a batch, computed when first asked for and then kept.

    Args:
        x: The batch as the user gave it.
        layout: Its axis order.
        lengths: (B,) valid frames; None: all.
        given: What `plan` was given.
    """

    def __init__(self, x: Tensor, layout: str, lengths: Tensor | None, given: Saliency | None) -> None:
        self.x, self.layout, self.lengths, self.given = x, layout, lengths, given
        device = x.device.type
        self._autocast = (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        self._kept: dict[str, Tensor] = {}

    def map(self, kind: str = "energy") -> Tensor:
        """(B, F, T) float32, at least 0, and 0 beyond the valid frames.

        Args:
            kind: What the mixer was made with; it counts where `plan` was given nothing.

        Raises:
            ValueError: If what was given has another shape.
        """
        if kind not in self._kept:
            self._kept[kind] = self._checked(self._raw(kind))
        return self._kept[kind]

    def _raw(self, kind: str) -> Tensor:
        if isinstance(self.given, Tensor):
            return self.given
        if self.given is None:
            return KINDS[kind](to_bcft(self.x.detach(), self.layout), self.lengths)
        enabled, dtype = self._autocast
        # The plan is drawn without gradients or autocast; a callable that runs a model wants both as its user has them.
        with torch.enable_grad(), torch.autocast(self.x.device.type, dtype, enabled):
            return self.given(self.x.detach())

    def _checked(self, raw: Tensor) -> Tensor:
        batch, _, freq, time = to_bcft(self.x, self.layout).shape
        if not isinstance(raw, Tensor) or raw.shape != (batch, freq, time):
            found = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
            raise ValueError(f"saliency must be (B, F, T) = {(batch, freq, time)}, got {found}")
        values = torch.nan_to_num(raw.detach().to(self.x.device).float(), 0.0, 0.0, 0.0).clamp(min=0)
        if self.lengths is None:
            return values
        return values.masked_fill(torch.arange(time, device=values.device) >= self.lengths[:, None, None], 0.0)


def energy(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """How far each bin lies above the lowest value of its row: what is loud is salient.

    A level above the row's own floor is at least 0 and means the same for power, logarithms and scaled features.

    Args:
        x: (B, C, F, T).
        lengths: (B,) valid frames; None: all.

    Returns:
        (B, F, T) float32, mean over channels.
    """
    values = x.float()
    inside = values
    if lengths is not None:
        beyond = torch.arange(x.shape[3], device=x.device) >= lengths.view(-1, 1, 1, 1)
        inside = values.masked_fill(beyond, float("inf"))
    return (values - inside.amin((1, 2, 3), keepdim=True)).mean(1)


KINDS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {"energy": energy}
