"""Real chains: what is shipped and harvested, how it is read, chosen, split and drawn from; and chains as files."""
