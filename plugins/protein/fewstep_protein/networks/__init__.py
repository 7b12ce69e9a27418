"""Networks over chains: what several families train."""
