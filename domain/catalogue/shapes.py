"""Text that looks like other text: what a honey key is made of."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence

_CLASSES = (string.digits, string.ascii_uppercase, string.ascii_lowercase)
_HEX = {string.ascii_uppercase: "ABCDEF", string.ascii_lowercase: "abcdef"}


def like(samples: Sequence[str], draw: random.Random, *, freed: int = 0) -> str:
    """One text of the shape of `samples`: of the length of one of them, what all of that length share kept, every other
    letter and digit drawn from those seen where they differ.

    `freed` positions from the end are drawn anew even where all agree, for samples that leave too little choice.
    """
    assert samples, "a shape is learnt from something"
    model = draw.choice(samples)
    peers = [one for one in samples if len(one) == len(model)]
    varied = [len({one[place] for one in peers}) > 1 for place in range(len(model))]
    loose = [place for place, char in enumerate(model) if _class(char)]
    if len(peers) == 1 and not freed:
        freed = len(loose)
    for place in loose[len(loose) - freed :] if freed else []:
        varied[place] = True
    letters = _letters(peers, varied)
    drawn = []
    for place, char in enumerate(model):
        classes = sorted({_class(one[place]) for one in peers} - {""})
        if varied[place] and _class(char):
            drawn.append(draw.choice("".join(letters[one] for one in classes)))
        else:
            drawn.append(char)
    return "".join(drawn)


def _class(char: str) -> str:
    """The letters or digits a character is one of; "" for everything else, which stays as it is."""
    return next((one for one in _CLASSES if char in one), "")


def _letters(peers: Sequence[str], varied: Sequence[bool]) -> dict[str, str]:
    """What each class is drawn from: all digits; of letters A to F when no other is seen, else all of them."""
    seen = {char for one in peers for char, is_varied in zip(one, varied, strict=True) if is_varied}
    found = {string.digits: string.digits}
    for letters, hexadecimal in _HEX.items():
        here = {char for char in seen if char in letters}
        found[letters] = hexadecimal if here <= set(hexadecimal) else letters
    return found
