"""Protein backbones in few steps: recipes, data, metrics, files and panels for chains of CA atoms."""
