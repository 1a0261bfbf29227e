"""The simulator of `simulator_pool` on Ray.

    python examples/ray_cluster.py                     # two processes of this machine
    python examples/ray_cluster.py --address auto      # a cluster that is there

Ray has no executor of ``concurrent.futures``; the few lines of `RayExecutor` are one. It needs
``pip install 'zovh_jax[examples]'``.
"""

import argparse
import pathlib
from concurrent.futures import Executor

import cart_pole
import ray


class RayExecutor(Executor):
    """An executor whose calls are Ray's tasks, and each new function a remote one."""

    def __init__(self, **options):
        self._options, self._remotes = options, {}

    def submit(self, fn, /, *args, **kwargs):
        if fn not in self._remotes:
            self._remotes[fn] = ray.remote(**self._options)(fn)
        return self._remotes[fn].remote(*args, **kwargs).future()


def main(argv=None):
    """Runs until the queries are spent, and returns the result of `zo.minimize`."""
    # Here, not above: worker processes import this file too, and JAX would take each seconds.
    import jax
    import optax

    import zovh_jax as zo

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", help="of a cluster; 'auto' for the one of this machine")
    parser.add_argument("--queries", type=int, default=1600)
    options = parser.parse_args(argv)

    optimizer = optax.chain(
        zo.zo_gradient(8, 0.1, key=jax.random.key(1), directions=zo.directions.hadamard()),
        optax.adam(0.1),
    )
    start = cart_pole.controller()
    here = {} if options.address else {"num_cpus": 2, "include_dashboard": False}
    folder = str(pathlib.Path(cart_pole.__file__).parent)  # sent to workers, who import from it
    with ray.init(address=options.address, runtime_env={"working_dir": folder}, **here):
        result = zo.minimize(
            cart_pole.cost,
            start,
            optimizer,
            max_queries=options.queries,
            executor=RayExecutor(max_retries=2),
        )
    print(f"cost {cart_pole.cost(start):.3f} at the start, {result.best_value:.3f} at best")
    print(f"{result.num_queries} queries, {result.num_errors} failed; reason: {result.reason}")
    return result


if __name__ == "__main__":
    main()
