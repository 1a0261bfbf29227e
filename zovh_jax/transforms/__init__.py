"""Optax transformations and optimisers; one algorithm a file.

Transformations emit ascent directions or scale updates: ``zo_gradient``, ``zo_newton``,
``scale_by_inverse_hessian``. Optimisers are chains of them with a learning rate: ``zo_sgd``,
``zoar``, ``zovh``. All take ``update(updates, state, params, value_fn=f)``.
"""

from zovh_jax.transforms.rounds import ZerothOrderState, num_queries
from zovh_jax.transforms.scale_by_inverse_hessian import scale_by_inverse_hessian
from zovh_jax.transforms.zo_gradient import zo_gradient
from zovh_jax.transforms.zo_sgd import zo_sgd
from zovh_jax.transforms.zoar import zoar
from zovh_jax.transforms.zovh import zo_newton, zovh

__all__ = [
    "ZerothOrderState",
    "num_queries",
    "scale_by_inverse_hessian",
    "zo_gradient",
    "zo_newton",
    "zo_sgd",
    "zoar",
    "zovh",
]
