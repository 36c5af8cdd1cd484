"""The one source of rights: who may do what on which resource, and why.

    grants.py   the table           render.py   as IAM policy, for CloudFormation, as Terraform

Called by: template, cli/policy.py, doctor, tests.   Calls: names.py; pure.
"""
