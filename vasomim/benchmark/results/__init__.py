"""Results: the store of records, the measures in them, submissions."""
