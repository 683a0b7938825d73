"""The course labs: student versions from solution notebooks, and grading of what students hand in."""
