"""Workers as tasks of Amazon ECS: on Fargate, Fargate Spot, or capacity of the cluster's own.

Pure:  sizes.py      which sizes Fargate has
       target.py     where and as what tasks start; settings that contradict each other are refused here
       requests.py   arguments of calls;   replies.py   what comes back
       stops.py      why a task stopped, and what to do about it
       launching.py  how fast tasks may be started;   stopping.py   how fast they are told to stop
       places.py     on what capacity the next ones run;   watching.py   whom to look at, and when
       tasks.py      what is kept of a task, and the actions
       fleet.py      which tasks to start, watch and stop: events in, actions and news out
I/O:   driver.py     carries out what the fleet wants
       discovery.py  settings that were not given: environment, file, stack, default network
"""
