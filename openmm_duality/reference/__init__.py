"""What the physics code says: frames, and the readers that make them."""
