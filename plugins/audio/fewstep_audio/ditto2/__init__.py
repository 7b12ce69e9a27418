"""DITTO-2: music whose initial noise is optimised until the sample does what was asked."""
