"""The sender: an association to the PACS, and when it is tried again."""
