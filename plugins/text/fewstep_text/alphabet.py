"""The characters of the small English recipes. Imported by settings, which must not wait for a tokenizer."""

from __future__ import annotations

ALPHABET = "abcdefghijklmnopqrstuvwxyz .,"
"""What the small English recipes read and write."""
