"""Alerts: evaluates the rules and delivers the messages."""
