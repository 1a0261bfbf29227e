"""ZoVH's error bounds, with their constants, beside measured errors.

The function is f(θ) = −Σ cos θ_i, of which every constant is known: it is bounded by G = d, has
Lipschitz constants L₀ = √d, L₁ = L₂ = 1 (the last in Frobenius norm), the Hessian diag(cos θ) and
the smoothed one exp(−μ²/2) diag(cos θ). Values have noise of deviation σ. In the paper's order:

- Prop. D.1: ‖∇²F_μ − ∇²F‖ ≤ L₂ μ √d;
- Thm 4.8: E‖Ĥ − ∇²F‖² ≤ K d(d+2) V/((K−1)² μ⁴) + L₂² μ² d with V = σ² + 4 L₀² μ² (d+2);
- Thm 5.2: d/(λ² ρ² (σ_min+λ)²) times that bounds the error of the Gram-diagonal inverse, along
  orthogonal directions, where |1 + ν_k‖u_k‖²/(λ(K−1))| ≥ ρ. As values differ by no more than
  L₀ μ √(2d), ρ = ½ for λ ≥ 2√2 L₀ √d³/(K μ), and we know of no other λ for which there is a ρ;
- Thm 5.4: K d² (B₁ σ² + 4 B₂ L₀² μ²)/(λ² (σ_min+λ)² (K−1)²) bounds that of the product, with
  B₁ = B + L₂² d, B₂ = (d+3) B + L₂² d(d+1) and B = 4 K G² (d+2)(d+4)/((K−1)² μ⁶). The paper
  divides B by μ⁶ once more; its proof does not, and with μ = 1 it does not matter;
- Thm B.1: as 4.8 with n = N K directions from the last N points of ZoVH's own path, and
  λ² (n−1)² μ⁴ − L₀² η² μ² K (N²−1) d(d+2)/3 in place of λ² (n−1)² μ⁴, if it is positive.

Along orthogonal directions the leave-one-out correction is zero, so that ZoVH's product is ĝ/λ
whatever the curvature, and its error falls no faster than 1/λ. The bound of Thm 5.4, a root taken,
falls like 1/λ²: it can't hold for every λ.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from zovh_jax.directions import explicit

GRAM = zo.solvers.gram_diagonal(guard=False)
LIPSCHITZ = 1.0
"""L₁ and L₂."""


def value(theta: jax.Array) -> jax.Array:
    """f."""
    return -jnp.sum(jnp.cos(theta))


def place(dimension: int) -> jax.Array:
    """θ, where all curvatures are positive: from cos 1 to 1."""
    return jnp.linspace(-1.0, 1.0, dimension)


def hessian_bound(
    d: int,
    k: int,
    radius: float,
    noise: float = 0.0,
    rounds: int = 1,
    drift: float = 0.0,
) -> float | None:
    """Of E‖Ĥ − ∇²F‖²: Thm 4.8, or B.1 with ``drift`` = η/λ. None where B.1 says nothing."""
    n, slope = rounds * k, d**0.5
    spread = noise**2 + 4 * slope**2 * radius**2 * (d + 2)
    left = (slope * drift * radius) ** 2 * k * (rounds**2 - 1) * d * (d + 2) / 3
    divisor = (n - 1) ** 2 * radius**4 - left
    if divisor <= 0:
        return None
    return n * d * (d + 2) * spread / divisor + LIPSCHITZ**2 * radius**2 * d


def least_damping(d: int, k: int, radius: float) -> float:
    """The λ from which on ρ = ½."""
    return 2 * 2**0.5 * d**0.5 * d**1.5 / (k * radius)


def inverse_bound(d: int, k: int, radius: float, noise: float, damping: float) -> float:
    """Of the inverse's squared error: Thm 5.2 with ρ = ½."""
    bound = hessian_bound(d, k, radius, noise)
    assert bound is not None
    return d / (damping * (np.cos(1.0) + damping) / 2) ** 2 * bound


def product_bound(d: int, k: int, radius: float, noise: float, damping: float) -> float:
    """Of the product's squared error: Thm 5.4."""
    b = 4 * k * d**2 * (d + 2) * (d + 4) / ((k - 1) ** 2 * radius**6)
    first, second = b + LIPSCHITZ**2 * d, (d + 3) * b + LIPSCHITZ**2 * d * (d + 1)
    whole = first * noise**2 + 4 * second * d * radius**2
    return k * d**2 * whole / (damping * (np.cos(1.0) + damping) * (k - 1)) ** 2


def rows(dimension: int, counts: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Bounds and errors, both as roots of squares, over the size of what is estimated.

    ``trivial`` is the same of what asks nothing: the zero matrix, I/λ for the inverse, no step.
    """
    theta = place(dimension)
    slope, curvature = np.sin(theta), np.cos(theta)
    whole = float(np.linalg.norm(curvature))
    found = []

    def row(theorem: str, k: int, radius: float, bound: float | None, error: Any, **more: Any):
        size = more.pop("size", whole)
        found.append(
            {
                "theorem": theorem,
                "num_directions": k,
                "radius": radius,
                "noise": 0.0,
                "damping": None,
                "history_size": 1,
                "learning_rate": None,
                "trivial": 1.0,
                **more,
                "bound": None if bound is None else float(np.sqrt(bound) / size),
                "measured": float(np.sqrt(error) / size),
            }
        )

    for radius in (0.1, 1.0):
        bias = (1 - np.exp(-(radius**2) / 2)) * whole
        most = LIPSCHITZ**2 * radius**2 * dimension
        row("Prop. D.1", 0, radius, most, bias**2, history_size=0)
    for k in counts:
        run = of_hessian(dimension, k, rounds)
        for radius, noise in ((0.1, 0.0), (0.1, 1.0), (1.0, 0.0)):
            bound = hessian_bound(dimension, k, radius, noise)
            row("Thm 4.8", k, radius, bound, run(radius, noise), noise=noise)
    k, radius = counts[-1], 1.0
    least = least_damping(dimension, k, radius)
    orthogonally = of_inverse(dimension, k, rounds)
    for damping in (least, 1e4 * least):
        errors = orthogonally(radius, damping)
        inverse = float(np.linalg.norm(1 / (curvature + damping)))
        product = float(np.linalg.norm(slope / (curvature + damping)))
        apart = float(np.linalg.norm(1 / damping - 1 / (curvature + damping)))
        for name, bounded, error, size, trivial in (
            ("Thm 5.2", inverse_bound, errors[0], inverse, apart / inverse),
            ("Thm 5.4", product_bound, errors[1], product, 1.0),
        ):
            most = bounded(dimension, k, radius, 0.0, damping)
            row(name, k, radius, most, error, damping=damping, size=size, trivial=trivial)
    k, radius, damping, history = counts[0], 0.1, 1.0, 6
    along = of_path(dimension, k, radius, damping, history, rounds)
    for rate in (1e-4, 5e-4, 1e-2, 1e-1):
        bound = hessian_bound(dimension, k, radius, 0.0, history, rate / damping)
        options = {"history_size": history, "damping": damping, "learning_rate": rate}
        row("Thm B.1", k, radius, bound, along(rate), **options)
    return found


def over_rounds(one: Callable[..., Any], rounds: int) -> Callable[..., Any]:
    """The compiled mean of ``one(key, *args)`` over keys."""

    @jax.jit
    def run(*args):
        keys = jax.random.split(jax.random.key(1), rounds)
        found = jax.lax.map(lambda key: one(key, *args), keys, batch_size=20)
        return jax.tree.map(jnp.mean, found)

    return run


def asked(u: jax.Array, theta: jax.Array, radius: Any) -> jax.Array:
    """Values along directions."""
    return jax.vmap(value)(theta + radius * u)


def of_hessian(d: int, k: int, rounds: int) -> Callable[..., jax.Array]:
    """A function of radius and noise: E‖Ĥ − ∇²F‖² along Gaussian directions."""
    theta = place(d)

    def one(key, radius, noise):
        keys = jax.random.split(key)
        u = jax.random.normal(keys[0], (k, d))
        values = asked(u, theta, radius) + noise * jax.random.normal(keys[1], (k,))
        queries = zo.Queries.from_values(values, directions=explicit(u), radius=radius)
        estimate = zo.estimators.hessian(queries, theta).as_matrix()
        return jnp.sum(jnp.square(estimate - jnp.diag(jnp.cos(theta))))

    return over_rounds(one, rounds)


def of_inverse(d: int, k: int, rounds: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """A function of radius and damping: squared errors of inverse and product, orthogonally."""
    theta = place(d)

    def one(key, radius, damping):
        u = jnp.sqrt(d) * jnp.linalg.qr(jax.random.normal(key, (d, k)))[0].T
        values = asked(u, theta, radius)
        queries = zo.Queries.from_values(values, directions=explicit(u), radius=radius)
        estimate = zo.estimators.hessian(queries, theta)
        inverse = zo.inverse(estimate, damping=damping, solver=GRAM).as_matrix()
        product = zo.estimators.newton_direction(queries, theta, damping=damping, solver=GRAM)
        exact = 1 / (jnp.cos(theta) + damping)
        apart = product - exact * jnp.sin(theta)
        return jnp.sum(jnp.square(inverse - jnp.diag(exact))), jnp.sum(jnp.square(apart))

    return over_rounds(one, rounds)


def of_path(
    d: int, k: int, radius: float, damping: float, size: int, rounds: int
) -> Callable[..., jax.Array]:
    """A function of η: E‖Ĥ − ∇²F‖² at the last of N points of ZoVH's path, from all its values."""

    def one(key, rate):
        here = theta = place(d)
        values = jnp.zeros(0)
        u = jax.random.normal(key, (size, k, d))
        for index in range(size):
            values = jnp.append(values, asked(u[index], theta, radius))
            known = explicit(u[: index + 1].reshape(-1, d))
            queries = zo.Queries.from_values(values, directions=known, radius=radius)
            here = theta
            theta -= rate * zo.estimators.newton_direction(queries, theta, damping=damping)
        estimate = zo.estimators.hessian(queries, here).as_matrix()
        return jnp.sum(jnp.square(estimate - jnp.diag(jnp.cos(here))))

    return over_rounds(one, rounds)
