"""The internal listener: readiness, liveness and metrics, for whoever watches over the service."""
