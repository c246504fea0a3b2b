"""The files of a study: copies, doubts of identity, repair, rebuild and retention."""
