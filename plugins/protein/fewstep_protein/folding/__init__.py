"""Sequences for backbones, and whether a structure predictor folds them back: ProteinMPNN and self-consistency."""
