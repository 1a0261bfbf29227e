"""Ten short programs, each with a picture: ``python -m examples.gallery [NAME ...]`` draws them."""

NAMES = (
    "stars",
    "forest",
    "lander",
    "one_bit",
    "straighten",
    "telescope",
    "epidemic",
    "curvature",
    "doubt",
    "penalties",
)
"""The programs, in the order of the page."""
