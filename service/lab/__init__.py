"""What stands in for the world: the sandbox, the demo, the bench. No part of the service."""
