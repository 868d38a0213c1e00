"""What Open Connectors sends and expects: its wire, instances, events, templates. Pure."""
