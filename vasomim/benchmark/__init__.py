"""The benchmark: cells are planned, run and kept by :mod:`run` and :mod:`store`; pages are made by :mod:`report`.

Importing a module of this package imports neither torch nor the OpenMMLab libraries.
"""
