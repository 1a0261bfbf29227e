"""Interpolated Hessians beside their prior and the papers' estimators: a part of the case.

``interpolation`` of DIR/hessian-error.json, n pairs being 2n + 1 queries (the centre included):
  settings     radius (of noise, exact and newton), damping, numbers of seeds, newton's quadratic
  labels       of the methods; directions: of the directions
  errors       {problem, dimension, num_directions (pairs), radius, noise, method, median, q25, q75
               (over seeds), of_prior}: ‖Ĥ − H‖_F/‖H‖_F. ZoVH has the same queries, 2n + 1 forward
               ones. of_prior: the most, over seeds, of an error over its prior's
  noise        the same under noise, with of_bound: the most, over seeds, of an error over the sum
               of the noiseless prior's and the noise floor
               (`benchmarks.hessian_error.interpolation.errors`)
  exact        {problem, dimension, num_directions, median, q25, q75, least, most}: errors on
               quadratics where the pairs determine them, n = d(d+1)/2 and a fifth more
  newton       {precision, num_directions, noise, direction, median, q25, q75, least, most}:
               cosines with Newton's direction (`benchmarks.hessian_error.interpolation.newton`)
All in double precision but the layers and newton's float32.
"""

from benchmarks.hessian_error.interpolation.experiment import FULL, QUICK, Size, measure
from benchmarks.hessian_error.interpolation.plot import figure_of
from benchmarks.hessian_error.interpolation.tables import tables

__all__ = ["FULL", "QUICK", "Size", "figure_of", "measure", "tables"]
