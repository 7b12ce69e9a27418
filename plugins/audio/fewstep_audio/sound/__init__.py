"""What a sound is: spectrograms, vocoders, files."""
