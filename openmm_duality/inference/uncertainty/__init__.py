"""What a model knows of itself: its committee, its domain, and whether they can be believed."""
