"""The order of the worklist in SQL, pages of it, and the search."""
