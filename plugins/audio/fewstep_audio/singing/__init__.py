"""Singing from scores: notes, syllables, voices that sing them, and what a recipe makes of them."""
