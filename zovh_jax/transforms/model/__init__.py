"""A full quadratic model of the objective, for few parameters; ours."""

from zovh_jax.transforms.model.model_newton import model_newton

__all__ = ["model_newton"]
