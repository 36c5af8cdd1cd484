"""The public classes: settings in, futures out.

Files: base.py     what every executor does: submit, map, options, shutdown
       mapping.py  `map`: results in order, lazily, with a sliding window
       local.py    LocalExecutor
"""
