"""The console: pages for operators on the internal listener, over `service.operate`.

Every page is made on the server and works without a script; with one, it is live. The state is in
Redis, so any process serves any page. `app` puts it together; `wiring` builds it when it is first
asked for.
"""
