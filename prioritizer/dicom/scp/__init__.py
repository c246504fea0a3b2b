"""The listener: from a TCP connection to an instance in the spool."""
