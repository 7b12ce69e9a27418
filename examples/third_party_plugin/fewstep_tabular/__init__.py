"""Rows of a table as a modality."""
