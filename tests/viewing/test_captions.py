"""What stands above the panels: names, shares in percent, and what happened to a row."""

import pytest
import torch

import randommix_audio as rma
from randommix_audio.mixers.random_mix import CANDIDATES
from randommix_audio.viewing import show
from randommix_audio.viewing.captions import FOLLOW_SALIENCY, FOR_HIDDEN_LAYERS, LONGEST_TITLE, share_text, shortened
from tests.viewing.drawing import BINS, FRAMES, panels


@pytest.mark.parametrize("share", [0.005, 0.125, 0.5, 0.995])
def test_percents_of_a_share_add_up_to_one_hundred(share):
    text = share_text(["a", "b"], [0, 1], [1 - share, share])
    assert sum(int(part) for part in text.split() if part.isdigit()) == 100


@pytest.mark.parametrize(
    ("share", "text"),
    [
        ([0.0, 1 / 3, 1 / 3, 1 / 3], "34 % b + 33 % c + 33 % d"),
        ([0.34375, 0.34375, 0.3125, 0.0], "35 % a + 34 % b + 31 % c"),
        ([0.0, 1.0, 0.0, 0.0], "100 % b"),
        ([1.0, 0.0, 0.0, 0.0], "100 % a"),
    ],
)
def test_a_source_without_a_share_is_never_rounded_up_to_one_percent(share, text):
    assert share_text("abcd", [0, 1, 2, 3], share) == text


def test_sources_that_are_the_same_row_count_once():
    assert share_text("ab", [0, 1, 1, 0], [0.4, 0.3, 0.2, 0.1]) == "50 % a + 50 % b"
    assert share_text("ab", [1, 1, 1], [0.4, 0.3, 0.3]) == "b paired with itself"
    assert share_text("ab", [0, 0, 1], [0.6, 0.4, 0.0]) == "a paired with itself"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("yes/2796ac50_nohash_1", "yes/2796ac50_nohash_1"),
        ("a_folder_of_recordings/yes_1", "yes_1"),
        ("folder/" + "abcdefgh" * 4, "abcdefghabcdefghabcde…"),
        ("a_name_that_ends_in_a_slash_/", "a_name_that_ends_in_a…"),
        ("/" * 30, "/" * 21 + "…"),
    ],
)
def test_a_long_name_loses_its_folder_first_and_then_its_end(name, shown):
    assert shortened(name) == shown


def test_what_captions_know_of_methods_is_what_the_mixers_say():
    assert {name for name, mixer in CANDIDATES.items() if mixer.hidden} == set(FOR_HIDDEN_LAYERS)
    assert {name for name, mixer in CANDIDATES.items() if hasattr(mixer(), "saliency")} == set(FOLLOW_SALIENCY)


def test_a_caption_that_is_too_long_for_one_line_goes_on_in_the_next():
    x = torch.rand(4, BINS, FRAMES, generator=torch.Generator().manual_seed(1))
    plan = rma.CoMixup(beta=0.0).plan(x, generator=torch.Generator().manual_seed(0))
    names = [f"a_rather_long_name_{i}" for i in range(4)]
    lines = panels(show(x, plan, names=names))
    mixed = [line[3].get_title() for line in lines if line[3].get_title().count(" % ") > 2]
    assert mixed, "no row consists of three"
    for title in mixed:
        assert "\n+ " in title
        assert all(len(line) <= LONGEST_TITLE for line in title.splitlines())
