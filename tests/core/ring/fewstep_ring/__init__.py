"""A plugin for the tests of the core: points on a ring, distilled in seconds."""
