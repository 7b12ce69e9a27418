"""The same method on a Markov chain, where every law is known exactly."""
