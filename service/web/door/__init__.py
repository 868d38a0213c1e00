"""The public listener: who calls, what it means, what is answered."""
