"""A bed for benchmarks: AWS's answers with AWS's latencies, and a simulated fleet, in one process on loopback.

Called by: ecs.py and lambda.py, beside this folder.
Files:     emulator.py    the process: all services behind one endpoint; `python -m cloud.emulator`
           door.py        HTTP/1.1, as little of it as AWS's clients need
           latency.py     timers, and how long each service takes
           bill.py        requests by side, service and operation; their list price
           queues.py      queues with long polls and visibility;   sqs.py   their HTTP face
           s3.py, ecs.py, functions.py (Lambda), account.py        the other services' faces
           backstage.py   requests that simulated workers make, without HTTP
           fleet.py       simulated workers, which talk as the real agent does
           environments.py   what a function's environments do: ours, and one written by hand
           lithops_worker.py   what one of Lithops' does
           bed.py         the process, as those who measure see it
           measures.py    one measurement of ECSExecutor, in a process of its own
           lambda_measures.py    the same of LambdaExecutor
           boto3_measures.py     the same of boto3 and threads, by hand
           lithops_measures.py   the same of Lithops, in an environment of its own (lithops_env.sh)
"""
