"""What people decide of the site: calibrations and settings overrides, proposed, approved, activated."""
