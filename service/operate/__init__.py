"""What an operator can look at and do, as async functions of plain values.

Commands are thin skins over it. Each function opens what it needs of the deployment and closes it.
"""
