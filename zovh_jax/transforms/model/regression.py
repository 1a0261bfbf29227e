"""A quadratic regressed on all values; how far to believe each of them is learnt too.

In coordinates z, in which the Hessian is thought to be near a multiple of the identity, values are

    y_i = c + gᵀz_i + ½ h |z_i|² + ½ z_iᵀ E z_i + e_i

with vague priors for c, g and h, and E symmetric with independent normal entries of variance s²
(2s² on the diagonal). So ½ zᵀEz has the covariance ½ s² (z_iᵀz_j)², and E the least change that the
values ask for: least Frobenius norm where e = 0. The error e_i, independent normal, is what is not
quadratic, and rounding: its standard deviations are s τ w_i and s ν, with w_i one of

    rough:   ½ (|z_i|² + 1)          a function that is quadratic on average only, at every scale
    smooth:  ½ (|z_i|² + 0.01)^{3/2}   one that has a third derivative

This makes distant values count little. s comes out in closed form; τ and the form of w are those of
the largest evidence, which is sought from round to round.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._tree import scalar_dtype

VAGUE = 10.0, 1e3, 1e2
"""Prior standard deviations of c, g and h over s, with |z| ≤ 1 or so where it matters."""


class Levels(NamedTuple):
    """Where the search for the largest evidence stands.

    Attributes:
      tau: the place of τ in `taus`.
      smooth: whether the error has the smooth form.
    """

    tau: jax.Array
    smooth: jax.Array

    @classmethod
    def init(cls) -> "Levels":
        """Values are hardly believed."""
        return cls(jnp.array(len(taus()) - 3, jnp.int32), jnp.zeros((), bool))


class Quadratic(NamedTuple):
    """A model in coordinates z.

    Attributes:
      slopes: g, [d].
      curvature: h.
      hessian: hI + E, [d, d].
      scale: s.
      evidence: the logarithm of the values' density, up to a constant.
    """

    slopes: jax.Array
    curvature: jax.Array
    hessian: jax.Array
    scale: jax.Array
    evidence: jax.Array

    def foretold(self, point: jax.Array) -> jax.Array:
        """By how much the model falls from θ to a point."""
        return -jnp.vdot(point, self.slopes + mm(self.hessian, point[:, None])[:, 0] / 2)


def taus() -> np.ndarray:
    """τ's choices: from the least that the precision allows, in steps of √10."""
    exact = jnp.finfo(scalar_dtype()).bits == 64
    return 10.0 ** np.arange(-7 if exact else -2.5, 1.01, 0.5)


def search(
    points: jax.Array,
    values: jax.Array,
    used: jax.Array,
    noise: jax.Array,
    levels: Levels,
    count: jax.Array,
) -> tuple[Quadratic, Levels]:
    """The model of the largest evidence among those at levels near the last ones.

    Args:
      points: z_i, [m, d].
      values: y_i, [m].
      used: which of them count, [m].
      noise: ν.
      levels: the last ones.
      count: the number of the round: each tries one more τ, far from the others.
    """
    num = len(taus())
    near = jnp.clip(levels.tau + jnp.array([0, -1, 1, 0]), 0, num - 1)
    tried = jnp.concatenate([near, jnp.stack([jnp.zeros_like(count), count % num])])
    forms = jnp.stack([levels.smooth] * 3 + [~levels.smooth] + [levels.smooth] * 2)

    def model(level):
        return regress(points, values, used, noise, Levels(*level))

    # One after another: a round's memory is that of one factorisation.
    models = jax.lax.map(model, (tried, forms))
    best = jnp.argmax(models.evidence)
    levels = Levels(tried[best].astype(jnp.int32), forms[best])
    return jax.tree.map(lambda x: x[best], models), levels


def regress(
    points: jax.Array, values: jax.Array, used: jax.Array, noise: jax.Array, levels: Levels
) -> Quadratic:
    """The model at given levels; arguments as for `search`."""
    dtype, (m, d) = points.dtype, points.shape
    z, y = jnp.where(used[:, None], points, 0), jnp.where(used, values, 0)
    squares = jnp.sum(z * z, 1)
    rough, smooth = (squares + 1) / 2, (squares + 0.01) ** 1.5 / 2
    tau = jnp.asarray(taus(), dtype)[levels.tau]
    error = jnp.square(tau * jnp.where(levels.smooth, smooth, rough)) + noise**2
    error = jnp.where(used, error, 1)

    # Rows in units of their own standard deviation.
    unit = jax.lax.rsqrt(squares**2 / 2 + error)
    kernel = jnp.square(mm(z, z.T)) / 2 * unit[:, None] * unit[None]
    jitter = 10 * jnp.finfo(dtype).eps
    kernel += jnp.diag(error * unit**2 + jitter)
    root = jnp.linalg.cholesky(kernel)
    prior = jnp.asarray(np.repeat(VAGUE, (1, d, 1)), dtype)
    plain = jnp.concatenate([used[:, None].astype(dtype), z, squares[:, None] / 2], 1) * prior[None]
    white = _solve(root, jnp.concatenate([plain, y[:, None]], 1) * unit[:, None])
    white, target = white[:, :-1], white[:, -1]
    q, r = jnp.linalg.qr(jnp.concatenate([white, jnp.eye(d + 2, dtype=dtype)]))
    coefficients = jax.scipy.linalg.solve_triangular(r, mm(q[:m].T, target[:, None]))[:, 0]
    left = target - mm(white, coefficients[:, None])[:, 0]
    num = jnp.maximum(jnp.sum(used), 1).astype(dtype)
    variance = (jnp.sum(left**2) + jnp.sum(coefficients**2)) / num
    smallest = jnp.finfo(dtype).tiny
    logs = [
        jnp.log(jnp.diag(root)),
        -jnp.where(used, jnp.log(unit), 0),
        jnp.log(jnp.abs(jnp.diag(r))),
    ]
    evidence = -num / 2 * jnp.log(variance + smallest) - sum(map(jnp.sum, logs))
    duals = unit * _solve(root.T, left[:, None], lower=False)[:, 0]
    slopes, curvature = (prior * coefficients)[1:-1], (prior * coefficients)[-1]
    hessian = curvature * jnp.eye(d, dtype=dtype) + mm(z.T * duals[None], z)
    return Quadratic(
        slopes,
        curvature,
        (hessian + hessian.T) / 2,
        jnp.sqrt(variance),
        jnp.where(jnp.isfinite(evidence), evidence, -jnp.inf),
    )


def _solve(root: jax.Array, right: jax.Array, lower: bool = True) -> jax.Array:
    return jax.scipy.linalg.solve_triangular(root, right, lower=lower)


def mm(a: jax.Array, b: jax.Array) -> jax.Array:
    """A product in the precision of its factors."""
    return jnp.matmul(a, b, precision="highest")


__all__ = ["Levels", "Quadratic", "mm", "regress", "search", "taus"]
