"""Labelled images of every form, their sources, splits and duplicates."""
