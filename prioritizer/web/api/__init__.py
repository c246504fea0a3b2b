"""JSON for programs, and health for machines."""
