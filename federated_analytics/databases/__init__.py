"""Databases to try things on: PostgreSQL servers of our own, OMOP tables, synthetic patients."""
