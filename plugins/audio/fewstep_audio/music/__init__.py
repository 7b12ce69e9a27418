"""Where music comes from: scores, rendering, corpora."""
