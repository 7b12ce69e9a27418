"""ProDiff: two-step speech by progressive distillation of a teacher that predicts clean spectrograms (Huang et al. 2022)."""
