"""How a round is evaluated: the only code that calls the user's objective.

- ``vmapped()``: all perturbed parameters at once. Fastest; K (or 2K) copies of the parameters.
- ``chunked(size)``: ``size`` directions at a time, plus and minus one after the other. Memory for
  ``size`` directions and as many perturbed copies, whatever K is; ``chunked(1)`` does not vmap.
- ``sharded(mesh, axis, inner)``: spread over devices, each of which evaluates its own by one of the
  others. Only values travel.

An evaluator also says in what block sizes directions are replayed later. However it works,
``value_fn`` is traced exactly once a round.
"""

from zovh_jax.evaluators.chunked import chunked
from zovh_jax.evaluators.evaluator import Evaluator
from zovh_jax.evaluators.sharded import sharded
from zovh_jax.evaluators.vmapped import vmapped

__all__ = ["Evaluator", "chunked", "sharded", "vmapped"]
