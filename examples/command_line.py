"""Tunes a program of its own by running it: parameters as arguments, the value read from stdout.

    python examples/command_line.py

Threads wait for the programs, which run side by side. An exit code other than 0, a program that
hangs, and output without a value are all the same: the value is missing, and the run goes on.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import optax

import zovh_jax as zo

PROGRAM = [sys.executable, str(pathlib.Path(__file__).with_name("projectile.py"))]
START = {"speed": 29.5, "elevation": 50.0, "aim": 0.0}


def run(params):
    """The square of what the program prints; raises where it fails or takes too long."""
    arguments = [f"--{name}={float(value)!r}" for name, value in params.items()]
    done = subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, check=True, timeout=30
    )
    found = re.search(r"^miss: (\S+)$", done.stdout, re.MULTILINE)
    if not found:
        raise ValueError(f"no value in {done.stdout!r}")
    return float(found[1]) ** 2


def main(argv=None):
    """Runs until a shot hits, and returns the result of `zo.minimize`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args(argv)

    optimizer = optax.chain(
        zo.zo_gradient(6, 0.5, key=jax.random.key(1)), optax.adam(1.0, b1=0.8, b2=0.9)
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        result = zo.minimize(
            run,
            START,
            optimizer,
            max_queries=options.queries,
            executor=pool,
            target=0.04,  # a hit is within 20 cm
        )
    shot = ", ".join(f"{name} {value:.2f}" for name, value in result.best_params.items())
    print(f"{result.best_value**0.5:.2f} m off, from {run(START) ** 0.5:.2f} m, with {shot}")
    print(f"{result.num_queries} runs, {result.num_errors} failed; reason: {result.reason}")
    return result


if __name__ == "__main__":
    main()
