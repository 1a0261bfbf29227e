"""Small coordinate subspaces of a large space: how they are chosen, queried and fitted.

A *group* is a tuple of q coordinates: flat indices over all leaves, in the order of the tree. It
spans one subspace. Groups are disjoint, so steps in them add up without overlap. Parameters are
read and written at a few coordinates of each leaf; no array is as long as parameters × groups.
"""
