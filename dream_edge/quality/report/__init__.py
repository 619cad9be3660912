"""A comparison as a report that people read: one HTML page, Markdown and JSON."""
