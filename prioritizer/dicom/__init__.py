"""The DICOM world: pydicom and pynetdicom are imported in this folder only."""
