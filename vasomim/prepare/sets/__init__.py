"""The published datasets, one a module, each with its ``DATASET``; :mod:`vasomim.prepare.catalog` finds them here."""
