"""Whether files are those of a report, and its figures what they are said to be."""
