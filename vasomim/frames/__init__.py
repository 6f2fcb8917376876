"""Frames as users have them: images, DICOM files, folders of both, and where things lie."""
