"""The configuration file: its settings, its template, the policy they make, and the last one that was valid."""
