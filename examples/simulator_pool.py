"""Teaches carts to balance poles, in a simulator that runs on a pool of processes.

    python examples/simulator_pool.py

Each round's points are simulated side by side. Every value goes to a journal: kill the run, start
the same command again, and it goes on where it was. The pool is given as a function that makes
one, so that it is replaced if a worker dies; ``--crash`` shows it.
"""

import argparse
import functools
import multiprocessing
import os
import pathlib
import threading
from concurrent.futures import ProcessPoolExecutor

import cart_pole


def end_with_parent():
    """Ends a worker when the run is killed; else it would wait for work for ever."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(argv=None):
    """Runs until the queries are spent, and returns the result of `zo.minimize`."""
    # Here, not above: worker processes import this file too, and JAX would take each seconds.
    import jax
    import optax

    import zovh_jax as zo

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=1600)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--journal", type=pathlib.Path, default="simulator_pool.journal")
    parser.add_argument("--crash", action="store_true", help="workers die after 40 calls")
    options = parser.parse_args(argv)

    optimizer = optax.chain(
        zo.zo_gradient(8, 0.1, key=jax.random.key(1), directions=zo.directions.hadamard()),
        optax.adam(0.1),
    )
    start = cart_pole.controller()
    # Spawned, as to fork a process that has JAX's threads may hang.
    spawn = multiprocessing.get_context("spawn")
    make_pool = functools.partial(
        ProcessPoolExecutor, options.workers, mp_context=spawn, initializer=end_with_parent
    )
    result = zo.minimize(
        cart_pole.fragile_cost if options.crash else cart_pole.cost,
        start,
        optimizer,
        max_queries=options.queries,
        executor=make_pool,
        journal=options.journal,
        progress=True,
    )
    print(f"cost {cart_pole.cost(start):.3f} at the start, {result.best_value:.3f} at best")
    print(f"{result.num_queries} queries, {result.num_errors} failed; reason: {result.reason}")
    return result


if __name__ == "__main__":
    main()
