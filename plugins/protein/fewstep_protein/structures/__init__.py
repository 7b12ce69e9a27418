"""Real CA segments with their provenance, and the script that harvested them."""
