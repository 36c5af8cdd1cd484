"""The server process of the pocket AWS: moto's control plane, and ours for what must really happen.

  boto3, workers ──HTTP──> http.py ──> front.py ──┬─> faults.py   throttles, latency, resets
                                                  ├─> ecs.py      RunTask, StopTask, … -> tasks.py -> containers.py
                                                  ├─> sqs.py      messages             -> mailbox.py
                                                  ├─> cloudformation/  stacks, made by requests to all of these
                                                  ├─> control.py  /_pocket/…: faults, looking, task metadata
                                                  └─> moto.py     everything else

moto is spoken to by its requests alone, never by its internals, so that its versions do not matter much.

Files: requests.py  what was asked (service, operation), and answers in each protocol's shape
       checks.py    what RunTask and RegisterTaskDefinition refuse (pure)
       wire.py      how a task looks in an answer (pure)
       memory.py    the watcher that plays the kernel's OOM killer
       ready.py     the cluster, bucket and task definition that are there from the start
       warden.py    what ends the containers when the server itself is killed
       serve.py     the process: start, announce, end with the parent
"""
