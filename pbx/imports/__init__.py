"""Imports queue_log and CDR, from files and from databases."""
