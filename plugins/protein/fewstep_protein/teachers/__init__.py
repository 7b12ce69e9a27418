"""Teachers that were trained elsewhere, and how teachers of a pair network are trained here."""
