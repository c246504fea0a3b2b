"""What the dashboard shows of scores, readings and turn-around, and what an acceptance report needs. Computed from rows that were read."""
