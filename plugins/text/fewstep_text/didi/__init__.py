"""Few-step text students by discrete diffusion divergence instruction, on real English text."""
