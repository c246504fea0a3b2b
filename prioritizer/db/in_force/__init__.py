"""What is in force now: calibration, settings, ranking policy."""
