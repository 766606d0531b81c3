"""The site operator's web page: what waits, what was decided, ledger, audit and policy."""
