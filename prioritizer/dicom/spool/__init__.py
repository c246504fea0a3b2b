"""Files on disk: written durably, taken back, quarantined."""
