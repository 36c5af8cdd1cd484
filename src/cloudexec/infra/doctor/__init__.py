"""What `cloudexec doctor` looks at: everything that a run needs, and what to do about what is not as it should be.

    examine.py   which checks there are; runs them side by side, each with a time limit
    scene.py     what the checks look at: the settings that executors would use, and AWS, each question asked once
    findings.py  what a check says
    software.py  settings.py  identity.py  reach.py  stack.py  bucket.py  rights.py  roles.py  cluster.py  image.py
    network.py  quotas.py  function.py  trial.py      one subject each: `check_…` asks, `judge_…` is pure

Called by: cli/doctor.py.   Calls: place.py, permissions, template, backends' discovery, observe's prices.
"""
