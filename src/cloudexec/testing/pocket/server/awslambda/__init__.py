"""Lambda functions that really run; the control plane is moto's, with what it lacks.

Files: plane.py          which request goes where
       invoke.py         the operation Invoke: its checks, its answers
       pool.py           environments by function: warm reuse, concurrency, freezing, reaping
       environment.py    one process of the runtime and the Runtime API it talks to
       runtime_api.py    the HTTP between them
       launching.py      argv and variables of an environment; zip and image
       functions.py      what moto knows of a function
       words.py          what Lambda writes into logs and error payloads
       records.py        the log lines on their way to CloudWatch Logs; what was executed
       events.py         the queue of Event invocations
       control.py        account settings, concurrency, event invoke configurations

One Invoke, all on the thread of its HTTP request:

  plane -> invoke -> pool.take -> environment.run -> [Runtime API] -> awslambdaric -> handler
                  <- pool.give_back <- outcome    <-
"""
