"""`recalibrate`: from a folder of local cases to a candidate and its report."""
