"""Who plays, with which settings to choose from: the published ones first, then others near them.

All are chosen from alike, on other digits than those that are reported: the settings with the least
mean number of queries, where an attack that fails counts its whole budget.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.box_attack import ours, rivals
from benchmarks.box_attack.game import Attack


@dataclasses.dataclass(frozen=True)
class Contender:
    """An attack and its settings.

    Attributes:
      label: its name in the table.
      make: the attack from settings.
      choices: the settings to choose from, the published ones first.
      own: whether it is made of this library's parts.
    """

    label: str
    make: Callable[..., Attack]
    choices: Sequence[dict[str, Any]] = ({},)
    own: bool = False


def grid(published: dict[str, Any], **others: Sequence[Any]) -> list[dict[str, Any]]:
    """The published settings, then all combinations of the others."""
    found = [published]
    for values in itertools.product(*others.values()):
        settings = published | dict(zip(others, values, strict=True))
        if settings not in found:
            found.append(settings)
    return found


CONTENDERS = {
    "thompson": Contender(
        "ours, Thompson",
        ours.thompson,
        grid({"contrast": 2.0}, contrast=(0.5, 1.0, 3.0, 4.0)),
        own=True,
    ),
    "hadamard": Contender(
        "ours, Hadamard tiles",
        ours.hadamard,
        grid({"tiles": 7, "num_directions": 4}, tiles=(7, 14), num_directions=(2, 4, 8)),
        own=True,
    ),
    "sign_hunter": Contender("SignHunter", rivals.sign_hunter),
    "square": Contender(
        "Square Attack",
        rivals.square,
        grid({"share": 0.8, "queries": 10_000}, share=(0.1, 0.2, 0.3, 0.5), queries=(1000,)),
    ),
    "simba": Contender(
        "SimBA",
        rivals.simba,
        grid({"length": 0.2, "basis": "cosines"}, length=(1.0, 2.0, 4.0, 6.0)),
    ),
    "bandits": Contender(
        "Bandits",
        rivals.bandits,
        grid(
            {"rate": 0.03, "prior_rate": 0.001, "exploration": 0.01, "probe": 0.1, "tiles": 8},
            rate=(0.1, 0.3),
            prior_rate=(0.1, 1.0),
            exploration=(1.0,),
            probe=(1.0,),
        ),
    ),
    "nes": Contender(
        "NES",
        rivals.nes,
        grid(
            {"rate": 0.1, "probe": 0.1, "pairs": 10}, rate=(0.3,), probe=(1.0, 3.0), pairs=(3, 10)
        ),
    ),
}
"""In the order of the picture's colours."""
