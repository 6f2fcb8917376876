"""Checkpoints: read safely, renamed between families, converted, with the config that they carry."""
