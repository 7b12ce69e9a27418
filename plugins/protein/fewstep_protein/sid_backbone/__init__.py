"""``protein/sid-backbone``: CA backbones in a few network calls."""
