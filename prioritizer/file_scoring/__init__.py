"""One file or folder scored outside the worklist: `score`, and the upload of a page."""
