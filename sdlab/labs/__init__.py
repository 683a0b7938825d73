"""The course labs: build student versions from solution notebooks, and grade submissions."""
