"""CoMoSpeech: one-step speech by consistency distillation (Ye et al. 2023)."""
