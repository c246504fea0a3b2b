"""DICOM files and a PACS of our own, for the demonstration and for tests."""
