"""The video plugin: clips, streaming students, players."""
