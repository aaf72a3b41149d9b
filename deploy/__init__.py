"""Running it for real: images, containers, clusters."""
