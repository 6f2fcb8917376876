"""Statistics of comparisons: pure functions on arrays."""
