"""The 3d plugin of fewstep."""
