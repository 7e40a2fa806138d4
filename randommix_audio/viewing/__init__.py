"""Pictures of what mixing does and of how training went.

Every function gives a `matplotlib.figure.Figure` that is drawn off screen: it shows by itself at the end of
a notebook cell, `save` writes it to a file, and nothing pops up. matplotlib comes with the extra `viewing`
and is imported at the first picture.
"""

from randommix_audio.viewing.figure import save
from randommix_audio.viewing.gallery import gallery
from randommix_audio.viewing.mixes import show
from randommix_audio.viewing.reports import confusion, curves

__all__ = ["confusion", "curves", "gallery", "save", "show"]
