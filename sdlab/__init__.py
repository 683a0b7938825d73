"""sdlab: see why self-distillation sometimes makes a reasoning model worse (arXiv 2603.24472).

Data flows one way: world -> rollout -> score -> train, measure -> study -> show.
Importing the package is instant; torch and friends are imported by the rooms that use them.
"""

__version__ = "0.1.0"
