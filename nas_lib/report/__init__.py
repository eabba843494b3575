"""The report of an experiment: one HTML page that works offline, and the same figures as files."""
