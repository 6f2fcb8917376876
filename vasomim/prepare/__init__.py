"""From what was published or recorded to what training reads."""
