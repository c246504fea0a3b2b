"""Tables, connection, migrations, and the events of a study."""
