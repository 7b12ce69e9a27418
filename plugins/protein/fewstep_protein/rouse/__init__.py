"""``protein/rouse``: a Gaussian chain, exact from teacher to distance."""
