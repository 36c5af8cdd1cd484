"""CloudFormation of the pocket AWS: stacks that are really made, by requests to the pocket's own services.

  request ──> plane.py ──> operations.py  checks, changes the record, starts ──> work.py, a thread for each operation
                 │            │                                                    │ one resource: steps.py
              wire.py         ├─ states.py   what is refused in which state        ├─ resources/  a file for a service
           (XML both ways)    ├─ changes.py  what an update would do               └─ asking.py   requests by the front
                              └─ telling.py  what changes nothing

Reason: moto makes stacks at once, leaves out what it does not know, and never fails.

Files: reading.py     JSON and YAML with short tags -> a dictionary (pure)
       template.py    the dictionary, checked as AWS checks it (pure)
       parameters.py  what is given for a template's parameters (pure)
       intrinsics.py  Ref, Fn::Sub and their kin (pure)
       model.py       a template with its parameters: which resources, in which order (pure)
       shapes.py      properties as an API's request wants them (pure, after botocore's model)
       desk.py        what every operation needs: looking up, reading a request, beginning the work
       changesets.py  as operations.py, with a look before
       reasons.py     why a resource failed, in CloudFormation's words (pure)
       stacks.py      what is remembered of a stack: resources, events, change sets
"""
