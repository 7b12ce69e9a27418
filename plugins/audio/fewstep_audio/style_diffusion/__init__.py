"""StyleTTS-ZS: the style of speech sampled in one network call, all else decoded (Li et al. 2024)."""
