"""Columns as the steps name them; short, as the steps are long."""

import sqlalchemy as sa


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False)


def number(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=null)


def flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


def time(name: str, *, null: bool = True) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def refer(name: str, target: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, sa.ForeignKey(target), nullable=null)
