"""``solve`` and ``inverse``: (H + λI)⁻¹ with any solver."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._rows import row_sum
from zovh_jax._tree import Layout, direction_dtype, scalar_dtype, widen
from zovh_jax._types import Matvec, PyTree
from zovh_jax.directions import gaussian
from zovh_jax.operators import LowRankPlusScaled, Operator, null
from zovh_jax.solvers.solver import DirectSolver, Solver
from zovh_jax.solvers.spectrum import Spectrum
from zovh_jax.solvers.woodbury import Woodbury, woodbury


def solve(
    operator: Operator | Matvec,
    v: PyTree,
    *,
    damping: Any,
    solver: Solver = woodbury(),
    key: jax.Array | None = None,
    return_info: bool = False,
) -> Any:
    """(H + λI)⁻¹ v.

    Frozen leaves are in the null space of H: there the answer is v/λ.

    Args:
      operator: H, any `zo.Operator` with ``cg`` and ``neumann``, or any symmetric matvec. The
        direct solvers need a `LowRankPlusScaled`, or a sum or multiple of such with the same frozen
        leaves (the directions of a sum are put side by side in memory).
      v: a tree like params.
      damping: λ > 0.
      solver: ``woodbury()`` (exact), ``gram_diagonal()``, ``neumann(num_terms=…)`` or ``cg()``.
      key: for solvers that draw random numbers (``neumann(truncation="random")``).
      return_info: also return a `SolveInfo`.

    Returns:
      A tree like v, in float32 or wider; or (tree, info). NaN where the solver diverged. No query
      is spent.

    Raises:
      ValueError: if v is not like params, or damping is not positive.
      TypeError: if a direct solver is given an operator whose directions it can't see.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=4, radius=0.1)
      >>> H = zo.estimators.hessian(queries, x)
      >>> zo.solve(H, x, damping=1.0).shape
      (3,)
    """
    _checks.instance("solver", solver, Solver, "the solvers of zo.solvers")
    damping = jnp.asarray(_checks.positive("damping", damping), scalar_dtype())
    v = widen(v)
    x, info = solver.solve(operator, v, damping, key)
    return (x, info) if return_info else x


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InverseOperator(Operator):
    """(H + λI)⁻¹ as an operator; made by `inverse`.

    On frozen leaves, where H is zero, it is I/λ.

    Attributes:
      operator: H, a `zo.Operator` or a matvec.
      damping: λ.
      solver: the solver; what it approximates, this operator approximates in all its methods.
    """

    operator: Any
    damping: Any
    solver: Solver = dataclasses.field(metadata={"static": True})

    @property
    def layout(self) -> Layout | None:  # type: ignore[override]
        """The layout of H's trees; None for a bare matvec."""
        return self.operator.layout if isinstance(self.operator, Operator) else None

    def mv(self, vector: PyTree) -> PyTree:
        """The product with a tree like params: one solve."""
        return solve(self.operator, vector, damping=self.damping, solver=self.solver)

    def diagonal(self) -> PyTree:
        """The diagonal, as a tree like params.

        ``woodbury()`` takes O(n² d) time and holds n directions in memory, ``gram_diagonal()``
        takes one pass over them, and an iterative solver d solves.
        """
        layout = self._known_layout()
        if not isinstance(self.solver, DirectSolver):
            leaves = layout.leaves(super().diagonal(), "the diagonal")
        elif not self.solver.needs_gram:
            leaves = layout.leaves(self._low_rank().diagonal(), "the diagonal")
        else:
            core, _, base = self._core()
            rows = self._direct().plan.materialise(layout)

            def subtract(sums, row):
                weights, u = row
                return [
                    s - x * row_sum(weights, us) for s, x, us in zip(sums, u, rows, strict=True)
                ], ()

            start = [x + base.astype(x.dtype) for x in layout.zeros()]
            leaves, _ = jax.lax.scan(subtract, start, (core, rows))
        return layout.full(leaves, self._on_frozen)

    def trace(self) -> jax.Array:
        """The trace, a scalar; costs as `diagonal` does, and O(n² d) time with ``woodbury()``."""
        layout = self._known_layout()
        if not isinstance(self.solver, DirectSolver):
            leaves = layout.leaves(super().diagonal(), "the diagonal")
            perturbed = sum((jnp.sum(x.astype(scalar_dtype())) for x in leaves), jnp.zeros(()))
        elif not self.solver.needs_gram:
            perturbed = self._low_rank().trace()
        else:
            core, gram, base = self._core()
            perturbed = base * layout.size - jnp.sum(core * gram)
        return perturbed + self._num_frozen() / self._lambda()

    def as_matrix(self) -> jax.Array:
        """The d×d array, in ``jax.flatten_util.ravel_pytree`` order. For small d: d solves."""
        frozen = self._known_layout().full(
            [jnp.zeros(shape, scalar_dtype()) for shape in self._known_layout().shapes],
            self._on_frozen,
        )
        rest = [jnp.ravel(x).astype(scalar_dtype()) for x in jax.tree.leaves(frozen)]
        return super().as_matrix() + jnp.diag(jnp.concatenate(rest))

    def logdet(self) -> jax.Array:
        """log det of this operator, []: *minus* the log determinant of H + λI.

        NaN where H + λI is not positive definite (an averaged Hessian is indefinite: take a damping
        above its most negative eigenvalue). By n×n algebra: O(n² d + n³) time, n directions in
        memory. Frozen leaves count with log(1/λ) for each of their numbers.

        Raises:
          TypeError: with a solver that sees products only.
        """
        spectrum, _, sign = self._spectrum()
        frozen = self._num_frozen() * jnp.log(self._lambda())
        return -sign * spectrum.log_determinant() - frozen

    def sample(self, key: jax.Array, num: int) -> PyTree:
        """Samples of N(0, (H + λI)⁻¹): a tree like params with a leading axis [num].

        x = (H + λI)^(−1/2) z with z standard normal, the symmetric root, by n×n algebra: O(n² d +
        n³ + num·n·d) time; n directions and the samples in memory. All NaN on the perturbed leaves
        where H + λI is not positive definite. On frozen leaves, where H is zero, the variance is
        1/λ.

        Args:
          key: the same key gives the same samples.
          num: how many.

        Raises:
          TypeError: with a solver that sees products only.

        Example:
          >>> import jax, jax.numpy as jnp, zovh_jax as zo
          >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
          >>> queries = zo.query(f, x, jax.random.key(0), num_directions=20, radius=0.1,
          ...                    stencil=zo.stencils.three_point())
          >>> H = zo.estimators.interpolated_hessian(queries, x)  # 2 I
          >>> samples = zo.inverse(H, damping=2.0).sample(jax.random.key(1), 1000)
          >>> samples.shape, bool(abs(jnp.var(samples) - 1 / 4) < 0.02)
          ((1000, 3), True)
        """
        num = _checks.positive_int("num", num)
        spectrum, layout, sign = self._spectrum()
        own, other = jax.random.split(_checks.key(key))
        normal = gaussian().draw(own, layout, num, jnp.arange(num))
        leaves = spectrum.apply(lambda values: values ** (-sign / 2), normal)
        keys = iter(jax.random.split(other, max(len(layout.frozen), 1)))

        def frozen(shape, dtype):
            k = next(keys)
            if not jnp.issubdtype(dtype, jnp.floating):
                return jnp.broadcast_to(null(shape, dtype), (num, *jnp.shape(null(shape, dtype))))
            drawn = jax.random.normal(k, (num, *shape), direction_dtype(dtype))
            return drawn / jnp.sqrt(self._lambda()).astype(drawn.dtype)

        return layout.full(leaves, frozen)

    def _lambda(self) -> jax.Array:
        return jnp.asarray(self.damping, scalar_dtype())

    def _direct(self) -> LowRankPlusScaled:
        """H as the direct solver sees it."""
        if not isinstance(self.solver, DirectSolver):
            raise TypeError(
                f"{self.solver!r} sees products only: for logdet and sample use "
                "zo.inverse(operator, damping=…, solver=zo.solvers.woodbury())."
            )
        return self.solver.low_rank(self.operator)

    def _core(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """M, the Gram matrix G, [n, n] each, and 1/β: the inverse is I/β − Σ_jk M_jk u_j u_kᵀ."""
        solver, operator = self.solver, self._direct()
        assert isinstance(solver, DirectSolver)
        beta = (operator.scale + self._lambda())[None]
        gram = jnp.sum(operator.plan.gram(operator.layout), -1)
        norms = jnp.diagonal(gram)[:, None]

        def column(dots):
            q = solver.coefficients(
                operator.weights,
                beta,
                self._lambda(),
                dots[:, None],
                norms,
                lambda: gram[..., None],
            )
            return q[:, 0]

        core = jax.vmap(column, out_axes=1)(jnp.eye(gram.shape[0], dtype=gram.dtype))
        return (core + core.T) / 2, gram, 1 / solver.regularise(beta, self._lambda())[0]

    def _low_rank(self) -> LowRankPlusScaled:
        """The inverse itself, for a solver whose q_k is a multiple of u_k · v."""
        solver, operator = self.solver, self._direct()
        assert isinstance(solver, DirectSolver) and not solver.needs_gram
        beta = (operator.scale + self._lambda())[None]
        norms = operator.plan.squared_norms(operator.layout)[:, None]
        q = solver.coefficients(
            operator.weights, beta, self._lambda(), jnp.ones_like(norms), norms, lambda: norms
        )
        inverse = 1 / solver.regularise(beta, self._lambda())[0]
        return dataclasses.replace(operator, weights=-q[:, 0], scale=inverse)

    def _spectrum(self) -> tuple[Spectrum, Layout, int]:
        """Eigenvalues of H + λI and 1, or of an approximate inverse itself and −1."""
        operator, sign, shift = self._direct(), 1, self._lambda()
        if not isinstance(self.solver, Woodbury):
            if self.solver.needs_gram:  # type: ignore[attr-defined]
                raise TypeError(f"{self.solver!r} has no logdet and sample: use woodbury().")
            operator, sign, shift = self._low_rank(), -1, jnp.zeros_like(shift)
        return Spectrum.of(operator, shift), operator.layout, sign

    def _on_frozen(self, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        zeros = null(shape, dtype)
        floating = jnp.issubdtype(dtype, jnp.floating)
        return zeros + (1 / self._lambda()).astype(zeros.dtype) if floating else zeros

    def _num_frozen(self) -> int:
        """How many numbers the frozen float leaves have."""
        frozen = self._known_layout().frozen
        return sum(math.prod(s) for s, dtype in frozen if jnp.issubdtype(dtype, jnp.floating))


def inverse(
    operator: Operator | Matvec, *, damping: Any, solver: Solver = woodbury()
) -> InverseOperator:
    """(H + λI)⁻¹ as a `zo.Operator`; arguments as in `solve`.

    With a direct solver (``woodbury()``, which is exact) it also has ``logdet()`` and
    ``sample(key, num)``: Gaussian samples with this covariance.

    Raises:
      ValueError: for a damping that is not positive, or ``neumann(truncation="random")``.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=4, radius=0.1)
      >>> H = zo.estimators.hessian(queries, x)
      >>> inverse = zo.inverse(H, damping=500.0)
      >>> product = inverse @ (H @ x + 500 * x)  # a solve undoes H + λI
      >>> bool(jnp.allclose(product, x, atol=1e-4))
      True
    """
    _checks.instance("solver", solver, Solver, "the solvers of zo.solvers")
    if getattr(solver, "truncation", "fixed") == "random":
        raise ValueError(
            f"solver={solver!r} needs a key at every product: use zo.solve(..., key=key)."
        )
    return InverseOperator(operator, _checks.positive("damping", damping), solver)


__all__ = ["InverseOperator", "inverse", "solve"]
