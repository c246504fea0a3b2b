"""What pages share: query of the list, wording, history, alarms."""
