"""The simulator of `simulator_pool` on a Dask cluster.

    python examples/dask_cluster.py                               # two processes of this machine
    python examples/dask_cluster.py --scheduler tcp://HOST:8786   # a cluster that is there

``client.get_executor()`` is an executor like any other, so that nothing else changes. Dask runs
calls again whose worker died. It needs ``pip install 'zovh_jax[examples]'``.
"""

import argparse
import contextlib

import cart_pole
import distributed


@contextlib.contextmanager
def connected(scheduler):
    """A client of that scheduler, or of a cluster of two processes."""
    if scheduler:
        with distributed.Client(scheduler) as client:
            client.upload_file(cart_pole.__file__)  # as its workers do not see this folder
            yield client
        return
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def main(argv=None):
    """Runs until the queries are spent, and returns the result of `zo.minimize`."""
    # Here, not above: worker processes import this file too, and JAX would take each seconds.
    import jax
    import optax

    import zovh_jax as zo

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scheduler", help="its address, as tcp://HOST:8786")
    parser.add_argument("--queries", type=int, default=1600)
    options = parser.parse_args(argv)

    optimizer = optax.chain(
        zo.zo_gradient(8, 0.1, key=jax.random.key(1), directions=zo.directions.hadamard()),
        optax.adam(0.1),
    )
    start = cart_pole.controller()
    with connected(options.scheduler) as client:
        result = zo.minimize(
            cart_pole.cost,
            start,
            optimizer,
            max_queries=options.queries,
            executor=client.get_executor(),
        )
    print(f"cost {cart_pole.cost(start):.3f} at the start, {result.best_value:.3f} at best")
    print(f"{result.num_queries} queries, {result.num_errors} failed; reason: {result.reason}")
    return result


if __name__ == "__main__":
    main()
