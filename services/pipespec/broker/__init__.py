"""The broker: forwards what is published to who has subscribed. Stateless; several can run side by side."""
