"""What processes of a pool run: this file imports no JAX, which takes them seconds."""

import multiprocessing
import os

SPAWN = multiprocessing.get_context("spawn")  # forking a process with JAX's threads may hang


def square_or_die(x):
    """x²; at 2 it kills its process, the first time only if there is a path to note it."""
    path, x = x
    if x == 2 and not os.path.exists(path):
        if path:
            with open(path, "w"):
                pass
        os._exit(1)
    return x * x
