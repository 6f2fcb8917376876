"""Vascular anatomy-aware masked image modelling for X-ray angiograms, as plugins of OpenMMLab's libraries.

Importing this package imports nothing else and registers nothing; ``vasomim.models``, ``vasomim.data`` and
``vasomim.engine`` register, and a config names them in its ``custom_imports``.
"""

__version__ = '0.1.0'
