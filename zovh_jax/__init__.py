"""Optimisation from function values alone, as JAX transformations and optax optimisers.

Plan → query → reduce: `query` asks for values along random directions, the `estimators` turn them
into gradients and Hessians, the optimisers are thin shells over both.

Equations, as the docstrings number them. u is a random direction with E[u uᵀ] = I, μ the radius,
F_k = f(θ + μ u_k), F̄ their mean, F± = f(θ ± μ u), f0 = f(θ), ν_k = (F_k − F̄)/μ², n directions.

- (E1) F_μ(θ) = E f(θ + μu), the smoothed objective.
- (E2) ∇F_μ = E[(f(θ + μu) − b)/μ · u] for any b independent of u.
- (E3) ∇²F_μ = E[(f(θ + μu) − b)/μ² · (u uᵀ − I)]; (E4) with b = F_μ the −I may be dropped.
- (E5) Directions from another law ρ: each sample is weighted by W = π/ρ.
- (E6) S1: mean of F_k/μ² (u uᵀ − I). (E7) S2: of (F_k − f0)/μ² (u uᵀ − I).
- (E8) S3: of (F⁺ − 2 f0 + F⁻)/(2μ²) (u uᵀ − I). (E9) CD: S3 without the −I.
- (E10) ZoVH: 1/(n−1) Σ ν_k u_k u_kᵀ. (E11) The same over past rounds, with one mean over all.
- (E12) The baseline of least variance, E[F w]/E[w] with w = ‖u uᵀ − I‖_F².
- (E13) Forward differences: mean of (F_k − f0)/μ u_k. (E14) Central: of (F⁺ − F⁻)/(2μ) u_k.
- (E15) Averaged baseline, ZoAR: 1/(n−1) Σ (F_k − F̄)/μ u_k.
- (E16) Exact inverse: (Ĥ + λI)⁻¹ by Woodbury. (E17) With the diagonal of the Gram matrix only:
  I/λ − Σ ν_k/(λ²(n−1) + λν_k‖u_k‖²) u_k u_kᵀ.
- (E18) ZoVH's product: Σ_k μν_k [1/(λ(n−1)) − (u_kᵀ s_{−k}/(n−2))/(λ²(n−1) + λν_k‖u_k‖²)] u_k,
  s_{−k} = Σ_{j≠k} ν_j u_j.
- (E19) Neumann: (H + λI)⁻¹v ≈ α Σ_{i=0..T} (I − α(H + λI))^i v.
- (E20) The step θ ← θ − η · (E18).

Sources: ZoVH, arXiv 2605.30960; ZoAR, arXiv 2506.14460; ZO-SAH, arXiv 2507.06125. The optimisers
that they compare with name theirs.
"""

import typing

from zovh_jax import (
    baselines,
    directions,
    estimators,
    evaluators,
    problems,
    reuse,
    shaping,
    solvers,
    stencils,
    structures,
)
from zovh_jax._deprecation import deprecated
from zovh_jax.bilevel import hypergradient
from zovh_jax.diagnostics import Diagnostics, diagnostics
from zovh_jax.evaluators.query import query
from zovh_jax.explain import Explanation, explain
from zovh_jax.functional import grad, hvp, value_and_grad
from zovh_jax.history import History
from zovh_jax.hyperparams import static_args
from zovh_jax.laplace import Laplace, laplace
from zovh_jax.operators import LowRankPlusScaled, Operator
from zovh_jax.oracles import Asked, Midway, ask, from_host, minimize, tell
from zovh_jax.packing import pack, unpack
from zovh_jax.plan import Plan
from zovh_jax.queries import Queries
from zovh_jax.solvers import inverse, neumann_solve, solve
from zovh_jax.transforms import (
    bounded,
    diagonal_newton,
    fzoo,
    hizoo,
    low_rank_newton,
    mezo,
    model_newton,
    num_queries,
    packed,
    poem,
    quasi_newton,
    radazo,
    random_iterate,
    rspg,
    scalar_newton,
    scale_by_inverse_hessian,
    scale_by_radazo,
    scale_by_zo_adamm,
    spsa,
    spsa2,
    spsa_gains,
    stochastic_rounding,
    zo_adamm,
    zo_gradient,
    zo_hizoo,
    zo_newton,
    zo_sah,
    zo_sah_direction,
    zo_sgd,
    zo_signsgd,
    zo_spsa2,
    zoar,
    zoha,
    zovh,
)

__version__ = "0.2.0"

_RENAMED = {"subspace_newton": "low_rank_newton", "zo_subspace_newton": "zo_sah_direction"}

if not typing.TYPE_CHECKING:  # a type checker should not take every name for one of ours

    def __getattr__(name: str) -> typing.Any:
        """What has a new name, under its old one."""
        if name not in _RENAMED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        deprecated(f"zo.{name}", f"zo.{_RENAMED[name]}", "0.3.0")
        return globals()[_RENAMED[name]]


__all__ = [
    "Asked",
    "Diagnostics",
    "Explanation",
    "History",
    "Laplace",
    "LowRankPlusScaled",
    "Midway",
    "Operator",
    "Plan",
    "Queries",
    "ask",
    "baselines",
    "bounded",
    "diagnostics",
    "diagonal_newton",
    "directions",
    "estimators",
    "evaluators",
    "explain",
    "from_host",
    "fzoo",
    "grad",
    "hizoo",
    "hvp",
    "hypergradient",
    "inverse",
    "laplace",
    "low_rank_newton",
    "mezo",
    "minimize",
    "model_newton",
    "neumann_solve",
    "num_queries",
    "pack",
    "packed",
    "poem",
    "problems",
    "quasi_newton",
    "query",
    "radazo",
    "random_iterate",
    "reuse",
    "rspg",
    "scalar_newton",
    "scale_by_inverse_hessian",
    "scale_by_radazo",
    "scale_by_zo_adamm",
    "shaping",
    "solve",
    "solvers",
    "spsa",
    "spsa2",
    "spsa_gains",
    "static_args",
    "stencils",
    "stochastic_rounding",
    "structures",
    "tell",
    "unpack",
    "value_and_grad",
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
