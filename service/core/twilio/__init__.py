"""What Twilio sends and expects: signatures, callbacks, opt-outs, segments, error codes. Pure."""
