"""A reading room as a queueing simulation: arrivals, readers, disciplines, and the comparison of turn-around times."""
