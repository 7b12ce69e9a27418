"""The audio plugin of fewstep."""
