"""What a study is: its entries, what they resolve to, and the plan of its cells."""
