"""`parley bench`: how fast a deployment is, and whether it keeps its promises at that speed.

Signs callbacks (`plan`), sends them (`load`), reads what they cost (`usage`), and works out and
shows the result (`report`); `run` does all of it, `figures` holds what `report` is made from.
Speaks HTTP to the deployment and to the sandbox, and knows no other part of the service.
"""
