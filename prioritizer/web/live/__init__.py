"""Changes as they happen: the feed, its counts, and the stream to browsers."""
