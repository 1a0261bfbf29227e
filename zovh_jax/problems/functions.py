"""The synthetic functions of the ZoAR and ZoVH papers, with exact gradients and Hessians.

Where the papers' text and the ZoVH authors' code differ, an argument chooses. Rosenbrock's
``valley`` is 100 in the papers and 10 in the code of the Hessian experiment. Styblinski–Tang's
``slope`` is 50 in the ZoVH paper's text and 5 in its code; 5 gives the function of that name, and
is the default. The code's quadratic of the Hessian experiment is
``quadratic(10.0, rotated=True, spectrum="linear")`` plus terms without curvature.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _checks
from zovh_jax._trig import cosine_of_turns
from zovh_jax.problems.curvature import BandedPlusLowRank, Curvature, Rotated
from zovh_jax.problems.problem import Problem, Seed, seed_of, signs_and_order

SPECTRA = {"geometric": np.geomspace, "linear": np.linspace}


@dataclasses.dataclass(frozen=True)
class Quadratic(Problem):
    """½ Σ_i λ_i y_i², y = x or a rotation of x; made by `quadratic`."""

    condition: float = 1.0
    spectrum: str = "geometric"
    seed: Seed | None = None

    def _value(self, x):
        if self.condition == 1:
            return 0.5 * jnp.sum(jnp.square(x))
        operator = self._hessian(x)
        y = x if self.seed is None else operator.rotate(x)
        eigenvalues = operator.main if self.seed is None else operator.eigenvalues
        return 0.5 * jnp.sum(eigenvalues * jnp.square(y))

    def _gradient(self, x):
        return self._hessian(x).mv(x)

    def _hessian(self, x):
        eigenvalues = SPECTRA[self.spectrum](1.0, self.condition, x.size)
        if self.seed is None or self.condition == 1:
            return BandedPlusLowRank(jnp.asarray(eigenvalues, x.dtype))
        # With λ in ascending order the matrix would be nearly banded; shuffled, it is dense.
        signs, order = signs_and_order(self.seed, x.size)
        return Rotated(jnp.asarray(eigenvalues[order], x.dtype), jnp.asarray(signs, x.dtype))

    def minimizer(self, d):
        return jnp.zeros(d)


def quadratic(
    condition: float = 1.0,
    rotated: bool = False,
    key: jax.Array | None = None,
    spectrum: str = "geometric",
) -> Quadratic:
    """½ xᵀAx, where A has eigenvalues from 1 to ``condition``. The papers have ½‖x‖², the default.

    Args:
      condition: the condition number, at least 1.
      rotated: False for a diagonal A with ascending eigenvalues. True for A = Rᵀ diag(λ) R, where
        the orthogonal R is a cosine transform after random signs, and λ is in random order. A is
        then dense, its diagonal says little about λ, and a product takes O(d log d).
      key: draws the signs and the order; needed with ``rotated`` only.
      spectrum: "geometric" or "linear" spacing of the eigenvalues.

    Returns:
      A `Problem`.

    Raises:
      ValueError: for a condition below 1, an unknown spectrum, or a rotation without a key.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f = zo.problems.quadratic(100.0, rotated=True, key=jax.random.key(0))
      >>> x = jnp.ones(5)
      >>> bool(jnp.allclose(f.hessian(x).mv(x), f.gradient(x))), float(f(jnp.zeros(5)))
      (True, 0.0)
    """
    if not isinstance(condition, (int, float)) or not 1 <= condition < math.inf:
        raise ValueError(f"condition must be a finite number of at least 1; got {condition!r}.")
    if spectrum not in SPECTRA:
        raise ValueError(f"spectrum must be one of {sorted(SPECTRA)}; got {spectrum!r}.")
    if not rotated:
        return Quadratic(float(condition), spectrum)
    if key is None:
        raise ValueError("rotated=True draws a rotation: pass key=jax.random.key(...).")
    return Quadratic(float(condition), spectrum, seed_of(key))


@dataclasses.dataclass(frozen=True)
class Levy(Problem):
    """sin²πw_1 + Σ_{i<d} (w_i−1)²(1 + 10 sin²(πw_i+1)) + (w_d−1)²(1 + sin²2πw_d).

    Here w = 1 + (x − 1)/4. Separable, with many local minima; the minimum is 0, at x = 1.

    Example:
      >>> import jax.numpy as jnp, zovh_jax as zo
      >>> f = zo.problems.levy()
      >>> round(float(f(f.minimizer(10))), 6)
      0.0
    """

    def _value(self, x):
        w = 1 + (x - 1) / 4
        first = jnp.square(jnp.sin(jnp.pi * w[0]))
        waves = 5 - 5 * cosine_of_turns(w[:-1] + 1 / jnp.pi)  # 10 sin²(πw + 1)
        inner = jnp.square(w[:-1] - 1) * (1 + waves)
        last = jnp.square(w[-1] - 1) * (1 + jnp.square(jnp.sin(2 * jnp.pi * w[-1])))
        return first + jnp.sum(inner) + last

    def _gradient(self, x):
        v = (x - 1) / 4  # w − 1
        wave = jnp.pi * (v + 1) + 1
        inner = 2 * v * (1 + 10 * jnp.square(jnp.sin(wave)))
        inner = inner + 10 * jnp.pi * jnp.square(v) * jnp.sin(2 * wave)
        z, turn = v[-1], 2 * jnp.pi * v[-1]
        last = 2 * z * (1 + jnp.square(jnp.sin(turn)))
        last = last + 2 * jnp.pi * jnp.square(z) * jnp.sin(2 * turn)
        first = jnp.pi * jnp.sin(2 * jnp.pi * v[0])
        return inner.at[-1].set(last).at[0].add(first) / 4

    def _hessian(self, x):
        v = (x - 1) / 4  # w − 1
        wave = jnp.pi * (v + 1) + 1
        inner = 2 + 20 * jnp.square(jnp.sin(wave)) + 40 * jnp.pi * v * jnp.sin(2 * wave)
        inner = inner + 20 * jnp.square(jnp.pi * v) * jnp.cos(2 * wave)
        z, turn = v[-1], 2 * jnp.pi * v[-1]
        last = 2 + 2 * jnp.square(jnp.sin(turn)) + 8 * jnp.pi * z * jnp.sin(2 * turn)
        last = last + 8 * jnp.square(jnp.pi * z) * jnp.cos(2 * turn)
        first = 2 * jnp.square(jnp.pi) * jnp.cos(2 * jnp.pi * v[0])
        return BandedPlusLowRank(inner.at[-1].set(last).at[0].add(first) / 16)

    def minimizer(self, d):
        return jnp.ones(d)


@dataclasses.dataclass(frozen=True)
class Rosenbrock(Problem):
    """Σ_{i<d} [valley·(x_{i+1} − x_i²)² + (1 − x_i)²], for d ≥ 2.

    The Hessian is tridiagonal; the minimum is 0, at x = 1.

    Args:
      valley: how steep the valley's walls are: 100 (the papers), or 10 (the ZoVH code's Hessian
        experiment).

    Example:
      >>> import jax.numpy as jnp, zovh_jax as zo
      >>> f = zo.problems.rosenbrock()
      >>> float(f(jnp.zeros(3))), f.gradient(jnp.ones(3)).tolist()
      (2.0, [0.0, 0.0, 0.0])
    """

    valley: float = 100.0
    min_dimension = 2

    def __post_init__(self):
        _checks.positive("valley", self.valley)

    def _value(self, x):
        wall, slope = x[1:] - jnp.square(x[:-1]), 1 - x[:-1]
        return jnp.sum(self.valley * jnp.square(wall) + jnp.square(slope))

    def _gradient(self, x):
        wall = 2 * self.valley * (x[1:] - jnp.square(x[:-1]))
        before = -2 * x[:-1] * wall - 2 * (1 - x[:-1])
        return jnp.pad(before, (0, 1)) + jnp.pad(wall, (1, 0))

    def _hessian(self, x):
        before = 2 - 4 * self.valley * (x[1:] - 3 * jnp.square(x[:-1]))
        main = jnp.pad(before, (0, 1)) + jnp.full_like(x, 2 * self.valley).at[0].set(0)
        return BandedPlusLowRank(main, side=-4 * self.valley * x[:-1])

    def minimizer(self, d):
        return jnp.ones(d)


@dataclasses.dataclass(frozen=True)
class Ackley(Problem):
    """−20 exp(−0.2 r) − exp(mean cos 2πx) + 20 + e, with r² = mean x².

    The Hessian is diagonal plus rank two. The minimum is 0, at x = 0, where the function has a
    kink: there the gradient given is zero, and the Hessian NaN.

    Example:
      >>> import jax.numpy as jnp, zovh_jax as zo
      >>> f = zo.problems.ackley()
      >>> round(float(f(jnp.zeros(4))), 5), f.hessian(jnp.ones(4)).mv(jnp.ones(4)).shape
      (0.0, (4,))
    """

    def _value(self, x):
        radial = -20 * jnp.exp(-0.2 * jnp.sqrt(jnp.mean(jnp.square(x))))
        return radial - jnp.exp(jnp.mean(cosine_of_turns(x))) + 20 + jnp.e

    def _gradient(self, x):
        r = jnp.sqrt(jnp.mean(jnp.square(x)))
        pull = 4 * jnp.exp(-0.2 * r) / (jnp.where(r > 0, r, 1) * x.size)
        wave = jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * x))) / x.size
        return pull * x + wave * 2 * jnp.pi * jnp.sin(2 * jnp.pi * x)

    def _hessian(self, x):
        d, r = x.size, jnp.sqrt(jnp.mean(jnp.square(x)))
        pull = 4 * jnp.exp(-0.2 * r) / (r * d)
        wave = jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * x))) / d
        cosines, sines = jnp.cos(2 * jnp.pi * x), jnp.sin(2 * jnp.pi * x)
        return BandedPlusLowRank(
            pull + wave * 4 * jnp.square(jnp.pi) * cosines,
            vectors=jnp.stack([x, 2 * jnp.pi * sines]),
            weights=jnp.stack([-pull * (0.2 + 1 / r) / (r * d), -wave / d]),
        )

    def minimizer(self, d):
        return jnp.zeros(d)


@dataclasses.dataclass(frozen=True)
class StyblinskiTang(Problem):
    """½ Σ_i (x_i⁴ − 16 x_i² + slope·x_i). Separable; two minima in each coordinate.

    Args:
      slope: 5 (the function of that name, and the ZoVH code), or 50 (the ZoVH paper's text).

    Example:
      >>> import zovh_jax as zo
      >>> f = zo.problems.styblinski_tang()
      >>> round(float(f.minimizer(2)[0]), 4), round(f.minimum(2), 3)
      (-2.9035, -78.332)
    """

    slope: float = 5.0

    def __post_init__(self):
        if not isinstance(self.slope, (int, float)) or not math.isfinite(self.slope):
            raise ValueError(f"slope must be a finite number; got {self.slope!r}.")

    def _value(self, x):
        square = jnp.square(x)
        return 0.5 * jnp.sum(jnp.square(square) - 16 * square + self.slope * x)

    def _gradient(self, x):
        return 2 * x * jnp.square(x) - 16 * x + 0.5 * self.slope

    def _hessian(self, x) -> Curvature:
        return BandedPlusLowRank(6 * jnp.square(x) - 16)

    def minimizer(self, d):
        return jnp.full(d, self._best())

    def minimum(self, d):
        x = self._best()
        return 0.5 * d * (x**4 - 16 * x**2 + self.slope * x)

    def _best(self) -> float:
        """The coordinate of the global minimiser: the stationary point of the least value."""
        roots = np.roots([2.0, 0.0, -16.0, 0.5 * self.slope])
        real = roots[np.abs(roots.imag) < 1e-9].real
        return float(min(real, key=lambda x: x**4 - 16 * x**2 + self.slope * x))


levy = Levy
rosenbrock = Rosenbrock
ackley = Ackley
styblinski_tang = StyblinskiTang

__all__ = ["ackley", "levy", "quadratic", "rosenbrock", "styblinski_tang"]
