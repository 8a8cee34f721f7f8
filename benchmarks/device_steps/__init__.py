"""Steps of one model on one device: exactness, then milliseconds against the floor."""
