"""Measures, curves, intervals and comparisons of scores against labels. No file, clock or chance that was not given."""
