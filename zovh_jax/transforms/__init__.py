"""Optax transformations and optimisers; one algorithm a file.

Transformations emit an ascent direction or scale updates: ``zo_gradient``, ``zo_newton``,
``zo_hizoo``, ``zo_subspace_newton``, ``zo_spsa2``, ``scale_by_…``. Optimisers are chains of them
with a learning rate. All take ``update(updates, state, params, value_fn=f)``.
"""

from zovh_jax.transforms.diagonal_newton import diagonal_newton
from zovh_jax.transforms.hizoo import hizoo, zo_hizoo, zoha
from zovh_jax.transforms.mezo import mezo
from zovh_jax.transforms.radazo import radazo, scale_by_radazo
from zovh_jax.transforms.rounds import ZerothOrderState, num_queries
from zovh_jax.transforms.rspg import random_iterate, rspg
from zovh_jax.transforms.scalar_newton import scalar_newton
from zovh_jax.transforms.scale_by_inverse_hessian import scale_by_inverse_hessian
from zovh_jax.transforms.spsa import spsa, spsa_gains
from zovh_jax.transforms.spsa2 import spsa2, zo_spsa2
from zovh_jax.transforms.subspace_newton import subspace_newton
from zovh_jax.transforms.zo_adamm import scale_by_zo_adamm, zo_adamm
from zovh_jax.transforms.zo_gradient import zo_gradient
from zovh_jax.transforms.zo_sah import zo_sah
from zovh_jax.transforms.zo_sgd import zo_sgd
from zovh_jax.transforms.zo_signsgd import zo_signsgd
from zovh_jax.transforms.zo_subspace_newton import zo_subspace_newton
from zovh_jax.transforms.zoar import zoar
from zovh_jax.transforms.zovh import zo_newton, zovh

__all__ = [
    "ZerothOrderState",
    "diagonal_newton",
    "hizoo",
    "mezo",
    "num_queries",
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
    "subspace_newton",
    "zo_adamm",
    "zo_gradient",
    "zo_hizoo",
    "zo_newton",
    "zo_sah",
    "zo_sgd",
    "zo_signsgd",
    "zo_spsa2",
    "zo_subspace_newton",
    "zoar",
    "zoha",
    "zovh",
]
