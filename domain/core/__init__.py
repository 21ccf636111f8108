"""What every noun stands on: money, ids, errors, clock, settings, database, events, promises, vault."""
