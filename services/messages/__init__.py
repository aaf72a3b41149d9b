"""What was said: its order, its encryption, its live updates."""
