"""Singing by consistency distillation: the singing variant of CoMoSpeech (Ye et al. 2023 sec. 4.3)."""
