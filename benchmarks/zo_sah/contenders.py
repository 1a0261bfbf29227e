"""The methods: ZO-SAH with its options, and the yardsticks beside it."""

import dataclasses
from typing import Any

import zovh_jax as zo
from benchmarks.common.methods import METHODS, Method, Setting, exactly, zoar

EVERY = 20
"""T, the steps in the same planes: the paper's."""
SHARE = 1 / 4
"""m/d, the share of the parameters that move in a step."""
CLIP = 0.1
"""κ, the least curvature that is believed."""


def sah(
    label: str, num_subspaces: int, switch_every: int = EVERY, dimension: int = 2, **options: Any
) -> Method:
    """ZO-SAH; a step costs at most 1 + J(q + q(q+1)/2), with J subspaces of q dimensions."""

    def make(rate, key, setting):
        return zo.zo_sah(
            rate,
            num_subspaces=num_subspaces,
            radius=setting.radius,
            key=key,
            switch_every=switch_every,
            subspace_dimension=dimension,
            **{"clip": CLIP} | options,
        )

    most = 1 + num_subspaces * (dimension + dimension * (dimension + 1) // 2)
    return Method(label, make, exactly(most), "newton")


def moving(size: int, share: float = SHARE, dimension: int = 2) -> int:
    """The number of subspaces that move a share of ``size`` parameters, at least one."""
    return max(1, round(share * size / dimension))


RSPG = dataclasses.replace(METHODS["rspg"], label="RSPG, random iterate")
RSPG_LAST = dataclasses.replace(METHODS["zo_sgd"], label="RSPG, last iterate = ZO-SGD")
"""Without a prox, RSPG's last iterate is ZO-SGD's."""
SCALAR_NEWTON = METHODS["scalar_newton"]
YARDSTICKS = (
    RSPG_LAST,
    RSPG,
    zoar("ZoAR, N = 4", history=True, reuse=zo.reuse.levels()),
    SCALAR_NEWTON,
)
"""The others, of as many directions a step as ZO-SAH moves parameters."""


def setting(size: int, radius: float = 1e-2) -> Setting:
    """The setting of the others on ``size`` parameters, and everybody's radius."""
    return Setting(num_directions=2 * moving(size), radius=radius)
