"""The benchmark: a study is planned, run, scored, kept, reported and submitted.

Its rooms, from the top; each imports only what stands below it:

    report | submission | running    pages; zip files and their verification; jobs, machines and time
    scoring                          from predictions on disk to scores
    study                            entries, what they resolve to, the plan and its jobs
    results                          records, tables and the folder that holds them
    statistics                       pure functions on arrays
    schema                           what files may hold

Importing a module of this package imports neither torch nor the OpenMMLab libraries, but for two that only a job needs:
:mod:`vasomim.benchmark.scoring.predictions` and :mod:`vasomim.benchmark.running.encoder`.
"""
