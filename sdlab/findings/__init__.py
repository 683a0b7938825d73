"""What the notebooks show: results as tables and sentences, with verdicts that are computed."""
