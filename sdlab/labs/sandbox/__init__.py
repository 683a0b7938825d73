"""The sandbox that runs students' code for grading and for the leaderboard.

`steps` runs the cells of a notebook and `training` trains a repair. docs/sandbox.md says what the sandbox
guarantees.
"""
