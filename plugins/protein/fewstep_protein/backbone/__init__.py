"""``protein/sid``: CA backbones in a few network calls."""
