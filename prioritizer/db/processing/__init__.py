"""The steps of a study through the daemon, each in one transaction: receive, score, place, deliver."""
