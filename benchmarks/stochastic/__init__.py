"""Objectives that are seen through a few examples, runs or episodes at a time.

`problem` says what a problem is; the other modules make them: `supervised` from data, `inventory`
from a simulator, `policies` from games that are played.
"""
