"""How chains are drawn: the grid of the roll, and the samplers of the field."""
