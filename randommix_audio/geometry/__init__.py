"""How the sources of a row are laid over each other: their weights everywhere, and where each of them is read.

Shapes: n rows, K sources of each row (itself first), C channels, F frequency bins, T frames. Every tensor of a geometry
has n rows, or one row that all share. A geometry holds no reference to the data; a mixer draws it once and it is used
on any tensor aligned with the batch.
"""

from randommix_audio.geometry.base import Geometry, Size, Span
from randommix_audio.geometry.blocks import Blocks, block_sizes, pool_blocks
from randommix_audio.geometry.gains import Gains
from randommix_audio.geometry.grouped import Grouped
from randommix_audio.geometry.holes import Holes
from randommix_audio.geometry.joined import Joined
from randommix_audio.geometry.pairs import Box, Constant, Mask, ResizedBox, Untouched
from randommix_audio.geometry.patches import Patches
from randommix_audio.geometry.storage import move, pack, unpack

__all__ = [
    "Blocks",
    "Box",
    "Constant",
    "Gains",
    "Geometry",
    "Grouped",
    "Holes",
    "Joined",
    "Mask",
    "Patches",
    "ResizedBox",
    "Size",
    "Span",
    "Untouched",
    "block_sizes",
    "move",
    "pack",
    "pool_blocks",
    "unpack",
]
