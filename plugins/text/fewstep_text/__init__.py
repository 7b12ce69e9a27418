"""The text plugin of fewstep."""
