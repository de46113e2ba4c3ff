#!/usr/bin/env python3
"""Module."""
from __future__ import annotations
import os, sys as system
import a.b.c
from . import sibling, other as o
from ..up import (x,
                  y)  # comment
from pkg.mod import *

LIMIT = 10
limit: int = f"{LIMIT!r:>{10}} {'}'}"
_hidden = """
def not_a_function(): pass
"""


@decorator(
    "def also_not():"
)
@another
def decorated(a, b=(1,
                    2)) -> dict[str, int]:
    """First sentence. Second one."""
    if a and b or not a:
        return {k: v for k, v in b if v}
    # trailing comment


    # another, not part of the function
async def coroutine():
    'Single quoted doc'
    async with a as b, \
            c as d:
        await b
    return [x
            for x in d] if d else None

class Outer(Base, metaclass=Meta):
    r"""Raw \doc."""

    field = lambda self: (self
        .x)

    def method(self): return 1; pass

    @property
    def _private(self):
        def nested():
            while True:
                try:
                    pass
                except (A, B):
                    continue
        return nested

    class Inner:
        def deep(self):
            match self:
                case 1 | 2:
                    pass
                case {"a": _}:
                    pass
                case _:
                    pass

    def __init__(self):
        self.x = '''
class NotThis:
    pass
'''
if True:
    def conditional():
	    return "tab"
else:
    def conditional(): return "\
continued"
def last(): return 'no newline'