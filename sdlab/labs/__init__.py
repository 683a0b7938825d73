"""Build student versions of the course labs from solution notebooks, and grade submissions."""
