"""Mixing inside a model: hooks on its layers, attached by `Mixer.attach`, and the plan that they carry out."""

from randommix_audio.hidden.attachment import Hidden
from randommix_audio.hidden.plan import HiddenPlan

__all__ = ["Hidden", "HiddenPlan"]
