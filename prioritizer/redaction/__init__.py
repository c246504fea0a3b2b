"""What must not reach a log: identifiers in records and in exceptions."""
