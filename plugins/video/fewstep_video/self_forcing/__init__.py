"""Self forcing: a bidirectional teacher becomes a causal few-step student that streams."""
