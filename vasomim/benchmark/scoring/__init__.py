"""Scores: from predictions on disk to what a cell records."""
