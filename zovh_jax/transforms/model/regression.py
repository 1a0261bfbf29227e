"""A model regressed on all values; how far to believe each of them is learnt too.

In coordinates z, in which the Hessian is thought to be near a multiple of the identity, values are

    y_i = c + gᵀz_i + ½ h |z_i|² + ½ z_iᵀ E z_i + t(z_i) + e_i

with vague priors for c, g and h, and E symmetric with independent normal entries of variance s²
(2s² on the diagonal). So ½ zᵀEz has the covariance ½ s² (z_iᵀz_j)², and E the least change that the
values ask for: least Frobenius norm where e and t are 0. The error e_i, independent normal, is what
the model has no place for, and rounding: its standard deviations are s τ w_i and s ν. The function
is taken for one of three kinds:

    rough:   w = ½ (|z|² + 1)^{3/2}      quadratic on average only
    smooth:  w = ½ (|z|² + 0.01)^{3/2}   with third derivatives of size τ, but others everywhere
    bent:    w = ½ τ (|z|² + 0.01)²      with the same third derivatives everywhere, of size τ, and
                                         fourth ones of size τ²

Only a bent function has a cubic form t, of the covariance ¼ s² τ² (z_iᵀz_j)³: along a valley that
bends, errors are alike, and t is what they have in common. Distant values count little. s comes out
in closed form; τ and the kind are those of the largest evidence, sought from round to round.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._products import matmul, mv
from zovh_jax._tree import scalar_dtype

KINDS, BENT = 3, 2
"""The number of kinds of functions, and which of them has a cubic form."""
VAGUE = 10.0, 1e3, 1e2
"""Prior standard deviations of c, g and h over s, with |z| ≤ 1 or so where it matters."""


class Levels(NamedTuple):
    """Where the search for the largest evidence stands.

    Attributes:
      tau: the place of τ in `taus`.
      kind: the place of the function's kind in the list above.
    """

    tau: jax.Array
    kind: jax.Array

    @classmethod
    def init(cls) -> "Levels":
        """Values are hardly believed."""
        return cls(jnp.array(len(taus()) - 3, jnp.int32), jnp.zeros((), jnp.int32))


class Model(NamedTuple):
    """A quadratic and a cubic form in coordinates z.

    Attributes:
      slopes: g, [d].
      curvature: h.
      hessian: hI + E, [d, d].
      scale: s.
      evidence: the logarithm of the values' density, up to a constant.
      points: z_i, [m, d].
      weights: β_i, [m]: t(z) = Σ β_i (z_iᵀz)³.
    """

    slopes: jax.Array
    curvature: jax.Array
    hessian: jax.Array
    scale: jax.Array
    evidence: jax.Array
    points: jax.Array
    weights: jax.Array

    def foretold(self, point: jax.Array) -> jax.Array:
        """By how much the model falls from θ to a point."""
        quadratic = matmul(point, self.slopes + mv(self.hessian, point) / 2)
        return -quadratic - matmul(self.weights, mv(self.points, point) ** 3)

    def touching(self, point: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Slopes at 0 and Hessian of the quadratic that agrees with the model around a point."""
        along = mv(self.points, point)
        bent = 6 * matmul(self.points.T * (self.weights * along)[None], self.points)
        return self.slopes - 3 * mv(self.points.T, self.weights * along**2), self.hessian + bent


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
) -> tuple[Model, Levels]:
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
    near = jnp.clip(levels.tau + jnp.array([0, -1, 1, 0, 1, 0, 1]), 0, num - 1)
    tried = jnp.concatenate([near, jnp.stack([jnp.zeros_like(count), count % num])])
    kinds = (levels.kind + jnp.array([0, 0, 0, 1, 1, 2, 2, 0, 0])) % KINDS

    def model(level):
        return regress(points, values, used, noise, Levels(*level))

    # One after another: a round's memory is that of one factorisation.
    models = jax.lax.map(model, (tried, kinds))
    best = jnp.argmax(models.evidence)
    levels = Levels(tried[best].astype(jnp.int32), kinds[best].astype(jnp.int32))
    return jax.tree.map(lambda x: x[best], models), levels


def regress(
    points: jax.Array, values: jax.Array, used: jax.Array, noise: jax.Array, levels: Levels
) -> Model:
    """The model at given levels; arguments as for `search`."""
    dtype, (m, d) = points.dtype, points.shape
    z, y = jnp.where(used[:, None], points, 0), jnp.where(used, values, 0)
    squares = jnp.sum(z * z, 1)
    least = jnp.asarray([1, 0.01, 0.01], dtype)[levels.kind]
    power = jnp.asarray([1.5, 1.5, 2], dtype)[levels.kind]
    tau = jnp.asarray(taus(), dtype)[levels.tau]
    cubic = jnp.where(levels.kind == BENT, tau**2 / 4, 0)
    size = jnp.where(levels.kind == BENT, tau**2, tau) / 2
    error = jnp.square(size * (squares + least) ** power) + noise**2
    error = jnp.where(used, error, 1)

    # Rows in units of their own standard deviation.
    unit = jax.lax.rsqrt(squares**2 * (0.5 + cubic * squares) + error)
    products = matmul(z, z.T)
    kernel = products**2 * (0.5 + cubic * products) * unit[:, None] * unit[None]
    jitter = 10 * jnp.finfo(dtype).eps
    kernel += jnp.diag(error * unit**2 + jitter)
    root = jnp.linalg.cholesky(kernel)
    prior = jnp.asarray(np.repeat(VAGUE, (1, d, 1)), dtype)
    plain = jnp.concatenate([used[:, None].astype(dtype), z, squares[:, None] / 2], 1) * prior[None]
    white = _solve(root, jnp.concatenate([plain, y[:, None]], 1) * unit[:, None])
    white, target = white[:, :-1], white[:, -1]
    q, r = jnp.linalg.qr(jnp.concatenate([white, jnp.eye(d + 2, dtype=dtype)]))
    coefficients = jax.scipy.linalg.solve_triangular(r, matmul(q[:m].T, target[:, None]))[:, 0]
    left = target - matmul(white, coefficients[:, None])[:, 0]
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
    hessian = curvature * jnp.eye(d, dtype=dtype) + matmul(z.T * duals[None], z)
    return Model(
        slopes,
        curvature,
        (hessian + hessian.T) / 2,
        jnp.sqrt(variance),
        jnp.where(jnp.isfinite(evidence), evidence, -jnp.inf),
        z,
        cubic * duals,
    )


def _solve(root: jax.Array, right: jax.Array, lower: bool = True) -> jax.Array:
    return jax.scipy.linalg.solve_triangular(root, right, lower=lower)


__all__ = ["Levels", "Model", "regress", "search", "taus"]
