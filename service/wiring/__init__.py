"""Builds the service from Settings: clients, loops, apps, and the order they start and stop in.

The only folder that knows how the parts fit together; the commands call it and nothing else.

    serve           `parley serve`: the listeners, the handlers and the Redis there are
    alone           then one process, started anew in place
    several         or several of them, and `dead_workers`, which gives up what a dead one held
    process         one process: which parts it has, and the order they start in
    parts/          what it is made of
    stopping        what each part gets at a stop, and the order they end in

    deployment      what `run_on_deployment` opens for other commands
    checking        `parley check`
    routes          `parley routes`
    pytest_plugin   the fixture `phones`, for authors' tests
"""
