"""Programs that start the others."""
