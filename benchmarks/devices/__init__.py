"""What queries spread over devices gain: a step on one device against one on several.

The devices are a CPU's cores, one thread each, in a process that is told to have so many; the
machine should do nothing else meanwhile. ZO-SGD along Gaussian directions, `sharded` over all
devices with blocks of one query, against the same on one device:

- heavy: an objective of about 10 ms, K = 8: what counts is the queries;
- cheap: the sum of a million squares, K = 16: what counts is the drawing of directions, so that
  ``reduce="psum"`` gains where ``"replay"`` cannot.

DIR/devices.json:
  environment   versions and machine
  rows          objective, devices, reduce, seconds of a step (the median) and each repeat's
"""

import argparse
import json
import os
import subprocess
import sys

from benchmarks.common import report
from benchmarks.devices import plot
from benchmarks.devices.tables import tables

PICTURES = {"devices": plot.figure_of}
FLAGS = (
    "--xla_force_host_platform_device_count={} --xla_cpu_multi_thread_eigen=false "
    "intra_op_parallelism_threads=1"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the number of devices."""
    cores = min(os.cpu_count() or 1, 8)
    parser.add_argument("--devices", type=int, default=cores, help=f"default: {cores}")


def run(args: argparse.Namespace) -> None:
    """Measures in a process that has the devices, prints the tables, writes the files."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS.format(args.devices)}
    command = [sys.executable, "-m", "benchmarks.devices.experiment", str(int(args.full))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result = {"environment": report.environment(), "rows": json.loads(done.stdout)}
    report.finish("devices", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
