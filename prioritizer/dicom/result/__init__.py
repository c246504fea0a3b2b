"""The Secondary Capture that is sent to the PACS."""
