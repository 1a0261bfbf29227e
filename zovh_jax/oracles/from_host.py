"""Python functions of numpy arrays as objectives."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from zovh_jax._tree import scalar_dtype
from zovh_jax._types import PyTree, ValueFn
from zovh_jax.oracles.calls import Calls, OnError, Pool


def from_host(
    fn: Callable[..., Any],
    *,
    batched: bool = False,
    executor: Pool = None,
    on_error: OnError = "nan",
    timeout: float | None = None,
    retries: int = 0,
) -> ValueFn:
    """An objective for ``update`` from a Python function, which JAX cannot trace.

    The compiled step calls back into Python with all points of a round at once. It runs under jit
    and `jax.lax.scan` like any other objective, and donated buffers are safe: whatever the function
    does, the step goes on. `zo.minimize` and `zo.ask` do without calling back.

    Args:
      fn: maps a tree like params, of numpy arrays that are its own, to a number. What its signature
        names of ``update``'s extras it gets as numpy arrays too. A parameter ``key`` gets a seed,
        uint32 numbers for ``numpy.random.default_rng``, the same for all points of a round.
      batched: whether ``fn`` takes all points of a round at once, in a tree whose leaves have a
        leading axis [n], extras too, and returns [n] values.
      executor: where calls run side by side: an executor of ``concurrent.futures`` (threads or
        processes; those of Dask, MPI and others are such too), or a function that makes one. That
        of a function is replaced if it breaks, as a pool of processes does when one of them dies.
        None calls one point after the other.
      on_error: "nan": a call that raises gives NaN, which the optimisers drop and count; the first
        exception is logged (``logging.getLogger("zovh_jax")``). "raise": the step raises, and what
        was donated to it is lost.
      timeout: the seconds that the values of a round may take together, the start of workers with
        them; those that are not there are NaN. A call that hangs in a thread of your pool goes on,
        and keeps the process alive at its end; processes of a pool that a function made are killed.
      retries: how many times more a call is made that raised an exception.

    Returns:
      A ``value_fn``. Its attribute ``calls`` has ``num_errors`` and ``first_error``. With
      ``evaluate=zo.evaluators.vmapped()`` there is one call back a round (and one for f(θ) where it
      is asked), with ``chunked(size)`` one a chunk. Values are rounded to JAX's precision, float32
      unless ``jax_enable_x64``: where they are large beside their differences, subtract a constant.
      Set that flag for the process: JAX calls back from threads that do not see the context
      ``jax.enable_x64(True)``, and then fails.

    Raises:
      TypeError, ValueError: for arguments out of range, naming them.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np, zovh_jax as zo
      >>> simulate = zo.from_host(lambda x: np.sum((x - 1) ** 2), retries=1)
      >>> optimizer = zo.scalar_newton(8, 0.1, key=jax.random.key(0), noise=0)
      >>> x = jnp.zeros(4)
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=simulate))
      >>> for _ in range(20):
      ...     updates, state = step(x, state)
      ...     x = x + updates
      >>> bool(jnp.all(jnp.abs(x - 1) < 0.01)), simulate.calls.num_errors
      (True, 0)
    """
    calls = Calls(
        fn,
        executor=executor,
        on_error=on_error,
        timeout=timeout,
        retries=retries,
        batched=batched,
    )

    def value_fn(params: PyTree, **extras: Any) -> jax.Array:
        arrays, tree = jax.tree.flatten(bare((params, extras)))
        ranks = [np.ndim(x) for x in arrays]

        def call(*leaves):
            points = _points([np.asarray(x) for x in leaves], ranks, tree, batched)
            shape = _batch_shape(leaves, ranks)
            values, _ = calls.values(points, int(np.prod(shape)))
            with np.errstate(over="ignore"):
                return values.astype(result.dtype).reshape(shape)

        result = jax.ShapeDtypeStruct((), scalar_dtype())
        return jax.pure_callback(call, result, *arrays, vmap_method="expand_dims")

    functools.update_wrapper(value_fn, fn)
    value_fn.calls = calls  # type: ignore[attr-defined]
    return value_fn


def bare(tree: PyTree) -> PyTree:
    """The tree with PRNG keys as their numbers."""

    def convert(x):
        is_key = isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return jax.tree.map(convert, tree)


def _batch_shape(leaves: Any, ranks: list[int]) -> tuple[int, ...]:
    shapes = [np.shape(x)[: np.ndim(x) - rank] for x, rank in zip(leaves, ranks, strict=True)]
    return np.broadcast_shapes(*shapes)


def _points(
    leaves: list[np.ndarray], ranks: list[int], tree: Any, batched: bool
) -> list[tuple[Any, dict[str, Any]]]:
    """Arguments of each call."""
    shape = _batch_shape(leaves, ranks)
    full = [
        np.broadcast_to(x, (*shape, *x.shape[x.ndim - rank :]))
        for x, rank in zip(leaves, ranks, strict=True)
    ]
    if batched:
        n = int(np.prod(shape))
        whole = [x.reshape(n, *x.shape[len(shape) :]) for x in full]
        rows = [[np.array(x) for x in whole]]
    else:
        rows = [[np.array(x[i]) for x in full] for i in np.ndindex(shape)]
    return [jax.tree.unflatten(tree, row) for row in rows]


__all__ = ["bare", "from_host"]
