"""``protein/frames``: backbones as rotations and translations, one rigid body for each residue."""
