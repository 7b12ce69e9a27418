"""Sections of the report. Everything is inside the page."""
