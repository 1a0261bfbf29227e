"""Optax transformations and optimisers; one algorithm a file.

Transformations emit an ascent direction or scale updates: ``zo_gradient``, ``zo_newton``,
``zo_hizoo``, ``zo_sah_direction``, ``zo_spsa2``, ``scale_by_…``. Optimisers are chains of them
with a learning rate. All take ``update(updates, state, params, value_fn=f)``.
"""

from zovh_jax.transforms._rounds import ZerothOrderState, num_queries
from zovh_jax.transforms.bounded import bounded
from zovh_jax.transforms.fzoo import fzoo
from zovh_jax.transforms.hizoo import hizoo, zo_hizoo, zoha
from zovh_jax.transforms.mezo import mezo
from zovh_jax.transforms.model import model_newton
from zovh_jax.transforms.newton import (
    diagonal_newton,
    low_rank_newton,
    quasi_newton,
    scalar_newton,
)
from zovh_jax.transforms.packed import packed
from zovh_jax.transforms.poem import poem
from zovh_jax.transforms.radazo import radazo, scale_by_radazo
from zovh_jax.transforms.rspg import random_iterate, rspg
from zovh_jax.transforms.sah import zo_sah, zo_sah_direction
from zovh_jax.transforms.scale_by_inverse_hessian import scale_by_inverse_hessian
from zovh_jax.transforms.spsa import spsa, spsa_gains
from zovh_jax.transforms.spsa2 import spsa2, zo_spsa2
from zovh_jax.transforms.stochastic_rounding import stochastic_rounding
from zovh_jax.transforms.zo_adamm import scale_by_zo_adamm, zo_adamm
from zovh_jax.transforms.zo_gradient import zo_gradient
from zovh_jax.transforms.zo_sgd import zo_sgd
from zovh_jax.transforms.zo_signsgd import zo_signsgd
from zovh_jax.transforms.zoar import zoar
from zovh_jax.transforms.zovh import zo_newton, zovh

__all__ = [
    "ZerothOrderState",
    "bounded",
    "diagonal_newton",
    "fzoo",
    "hizoo",
    "low_rank_newton",
    "mezo",
    "model_newton",
    "num_queries",
    "packed",
    "poem",
    "quasi_newton",
    "radazo",
    "random_iterate",
    "rspg",
    "scalar_newton",
    "scale_by_inverse_hessian",
    "scale_by_radazo",
    "scale_by_zo_adamm",
    "spsa",
    "spsa2",
    "spsa_gains",
    "stochastic_rounding",
    "zo_adamm",
    "zo_gradient",
    "zo_hizoo",
    "zo_newton",
    "zo_sah",
    "zo_sah_direction",
    "zo_sgd",
    "zo_signsgd",
    "zo_spsa2",
    "zoar",
    "zoha",
    "zovh",
]
