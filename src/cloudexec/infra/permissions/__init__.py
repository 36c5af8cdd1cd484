"""The one source of rights: who may do what on which resource, and why.

    rows.py     what a row is            grants.py   the table; setup.py its rows for `cloudexec up` and `down`
    render.py   as IAM policy, for CloudFormation, as Terraform
    boundary.py set-up that makes no role without a permissions boundary
    actions.py  the right that an API's operation asks for

Called by: template, cli/policy.py, doctor, tests.   Calls: names.py; pure.
"""
