"""Recipes, networks, and the run from first weights to checkpoints."""
