"""The order of the worklist: priority, deadlines and what moves a study."""
