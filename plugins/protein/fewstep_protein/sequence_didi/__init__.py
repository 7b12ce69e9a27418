"""``protein/sequence-didi``: amino-acid sequences in a few network calls, by masked diffusion and its distillation."""
