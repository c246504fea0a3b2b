"""`check` and `doctor`: what is wrong with this installation, and the remedy."""
