"""The command line: one module for each group of verbs, its tables and exit codes."""
