"""prioritizer: orders a chest radiograph reading worklist by calibrated risk under a bound. Triage support, never a diagnosis."""

__version__ = "0.1.0"
