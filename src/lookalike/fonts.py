"""Fonts for labels in any script, or a sentence where no font here draws them."""

import re
from functools import cache

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.font_manager import fontManager, get_font

# Letters of scripts that matplotlib's own font lacks, and one of the emoji.
LETTERS = "中あ한हবதก👟"


@cache
def fonts():
    """For `font.family`: what it is, then fonts of this machine for letters that it lacks."""
    names = [*plt.rcParams["font.family"]]
    missing = {*LETTERS}
    for font in sorted(fontManager.ttflist, key=lambda font: "Sans" not in font.name):
        # The one draws a box for any letter; of the others matplotlib draws nothing.
        if "Last Resort" in font.name or "Color" in font.name:
            continue
        face = get_font(font.fname)
        drawn = {letter for letter in missing if face.get_char_index(ord(letter))}
        if drawn:
            names.append(font.name)
            missing -= drawn
    return names


def missing_letters(warning):
    """Matplotlib's warning of a glyph that no font has, said plainly: which kind, what to do."""
    _, number, _, name, *_ = re.findall(r"\w+", warning)
    kind = "emoji" if int(number) > 0x1F000 else f"{name} letters"
    return (
        f"no font here draws {kind}. On Ubuntu and Colab: apt-get install fonts-noto-cjk "
        f"fonts-noto-core fonts-symbola; then delete {matplotlib.get_cachedir()} and restart."
    )
