"""The local process behind the R package's `registerDoCloudexec()`: `python -m cloudexec.adapters.foreach`.

Called by: the R package (r/cloudexec), which starts it and talks to it over one connection on 127.0.0.1.
Calls:     executors, cloudexec.r.

    R session                          this process                            executor
    frames.R  -- HELO token ------->   server.py   lets nobody else in
              -- OPEN kind, settings>  settings.py makes the executor    ---->  LocalExecutor, ECSExecutor, ...
              -- LOOP common, options> loops.py    one foreach
              -- TASK arguments... ->  loops.py    one call each         ---->  task.R on a worker's R
              -- NEXT ------------->   outcomes.py what has ended since  <----  futures
              -- DROP ------------->   loops.py    stops what is left

Values of R's pass through as bytes; nothing here looks into them. When the connection ends, everything ends.
"""
