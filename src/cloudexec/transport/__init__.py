"""Signed HTTP for S3, SQS and Lambda on the standard library; boto3 is needed only by the variant in boto.py.

Called by:  store, worker, backends.   Calls: errors.
Reading:    an `Operation` (operation.py) says what to send and how to read the answer; s3.py, sqs.py and
            lambdas.py build them.
            A client carries one out: `SyncClient.call(op)`, `await AsyncClient.call(op)`, `BotoClient.call(op)`.

            s3.py | sqs.py | lambdas.py --Operation--> sync.py | aio.py --steps of conversation.py--> a signed request
            (account.py: endpoints.py says where to, credentials.py who we are, sigv4.py proves it) --> bytes, read by
            http1.py --Reply--> conversation.py (retrying.py decides what is repeated) --> the operation's result, or an
            AwsError

Importing this package, or sync.py, loads neither ssl nor asyncio: a worker pays for what it uses.
"""
