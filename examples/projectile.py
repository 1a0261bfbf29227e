"""A program to be tuned from outside: it shoots with drag and side wind, and says by how much.

    python examples/projectile.py --speed 24 --elevation 40 --aim 0

It prints "miss: 3.25", the metres from the target, and fails where the gun would burst.
"""

import argparse
import math
import sys

TARGET = 38.0
"""Metres to the target."""


def miss(speed, elevation, aim):
    """How far from the target a shot comes down: angles in degrees."""
    up, across = math.radians(elevation), math.radians(aim)
    x, y, z = 0.0, 0.0, 0.0
    u, v, w = (
        speed * math.cos(up) * math.cos(across),
        speed * math.cos(up) * math.sin(across),
        speed * math.sin(up),
    )
    while True:
        drag = 0.004 * math.hypot(u, v - 4, w)  # the wind blows across with 4 m/s
        u, v, w = u - 0.01 * drag * u, v - 0.01 * drag * (v - 4), w - 0.01 * (drag * w + 9.8)
        if z + 0.01 * w < 0:  # the last step ends on the ground
            share = -z / (0.01 * w)
            return math.hypot(x + share * 0.01 * u - TARGET, y + share * 0.01 * v)
        x, y, z = x + 0.01 * u, y + 0.01 * v, z + 0.01 * w


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("speed", "elevation", "aim"):
        parser.add_argument(f"--{name}", type=float, required=True)
    shot = parser.parse_args()
    if shot.speed > 30 or not 0 < shot.elevation < 90:
        sys.exit("no such shot")
    print(f"miss: {miss(shot.speed, shot.elevation, shot.aim)}")
