"""Searches on a Ray cluster (extra `ray`): the same events as `milr.search.refine`, from workers on many devices.

    crew          workers that hold a model and a critic, and the searches brought to them
    joining       the cluster: one that runs already, or one started here
    shares        what a worker holds of it, and how many searches it is given at once
    work          which searches wait, are out, and where they stand
    worker        what runs in a worker's process

Nothing here writes files: one process, the driver, reads the events and keeps the run folder.
"""

from milr.cluster.crew import Crew, open_crew
from milr.cluster.worker import Load

__all__ = ["Crew", "Load", "open_crew"]
