"""Constants of the standard: presentation contexts and status codes."""
