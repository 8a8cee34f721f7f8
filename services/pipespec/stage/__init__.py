"""The stage service: one model (or a draft without one) for many sessions."""
