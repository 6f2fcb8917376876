"""Submissions: results packed with the predictions that they were computed from, and computed again from them."""
