"""Tables of a database as fragments: every expression becomes SQL, no row is loaded."""
