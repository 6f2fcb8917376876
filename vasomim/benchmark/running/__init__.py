"""Running a plan: cells, jobs, machines, time."""
