"""ZO-SAH (arXiv 2507.06125): the optimiser, its step alone, and what only they use."""

from zovh_jax.transforms.sah.zo_sah import zo_sah
from zovh_jax.transforms.sah.zo_sah_direction import zo_sah_direction

__all__ = ["zo_sah", "zo_sah_direction"]
