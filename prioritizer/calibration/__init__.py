"""From logits to probabilities: maps, their fit to local cases, thresholds, and the verdict on a fit."""
