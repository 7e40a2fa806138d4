"""The page that `randommix-audio preview` writes: one HTML file that needs nothing beside itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1240px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.25em; margin: 2em 0 .3em; }
p { max-width: 46em; } .settings { color: #555; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; } td { padding: .25em 1.5em .25em 0; vertical-align: middle; }
audio { height: 2.2em; vertical-align: middle; }
nav a { margin-right: 1em; }
"""

# What the picture of each method shows, for somebody who meets the method here.
DESCRIPTIONS = {
    "none": "Nothing is mixed.",
    "mixup": "Both clips everywhere, each with a constant weight; beyond the end of the shorter, the longer alone.",
    "cutmix": "A box of the partner, cut in time and frequency, replaces the same box of the clip.",
    "time_cutmix": "A stretch of time of the partner replaces the same stretch of the clip.",
    "freq_cutmix": "A band of frequencies of the partner replaces the same band of the clip.",
    "resizemix": "The whole partner, made smaller, is pasted into a box of the clip.",
    "fmix": "Regions of free shape, cut from low-frequency noise, come from the partner.",
    "cutout": "A box of the clip is filled with silence; there is no partner.",
    "saliencymix": "The box around the most salient point of the partner replaces the same box of the clip.",
    "puzzlemix": "Blocks of the clip and its partner, chosen, and some moved, so that what is salient survives.",
    "comixup": "Blocks of up to four clips, chosen for all mixes together so that these differ.",
    "manifoldmix": "Mixup for a hidden layer of a model, with a constant weight; here on the clips themselves.",
    "patchup": "For a hidden layer of a model: square patches are mixed with the partner's; here on the clips.",
    "randommix": "One of mixup, cutmix, resizemix and fmix, drawn at random.",
}


@dataclass(frozen=True)
class Sound:
    """A row of a table: what it is, and the WAV file to play."""

    text: str
    wav: bytes


@dataclass(frozen=True)
class Section:
    """A part of the page: heading, a sentence, a picture (PNG) and rows with sound.

    Attributes:
        picture_text: what the picture shows, in words, for those who cannot see it.
    """

    heading: str
    text: str = ""
    picture: bytes | None = None
    picture_text: str = ""
    sounds: Sequence[Sound] = field(default_factory=tuple)


def page(title: str, settings: str, sections: Sequence[Section]) -> str:
    """The HTML text of a page; pictures and sounds are inside it, so the one file can be sent or moved."""
    links = " ".join(f'<a href="#s{i}">{escape(s.heading)}</a>' for i, s in enumerate(sections))
    body = "\n".join(_section(i, section) for i, section in enumerate(sections))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="settings">{escape(settings)}</p>
<nav>{links}</nav>
{body}
</body>
</html>
"""


def _section(number: int, section: Section) -> str:
    parts = [f'<h2 id="s{number}">{escape(section.heading)}</h2>']
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    if section.picture is not None:
        source = _data_uri("image/png", section.picture)
        parts.append(f'<img src="{source}" alt="{escape(section.picture_text)}">')
    if section.sounds:
        parts.append("<table>" + "".join(_row(sound) for sound in section.sounds) + "</table>")
    return "\n".join(parts)


def _row(sound: Sound) -> str:
    player = f'<audio controls preload="metadata" src="{_data_uri("audio/wav", sound.wav)}"></audio>'
    return f"<tr><td>{escape(sound.text)}</td><td>{player}</td></tr>"


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
