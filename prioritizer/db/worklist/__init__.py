"""What readers see and do: rows, changes, claims, feedback, preferences."""
