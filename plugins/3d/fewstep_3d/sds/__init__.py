"""Score distillation of a scene."""
