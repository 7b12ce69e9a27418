"""Where speech comes from: text, phones, durations, corpora."""
