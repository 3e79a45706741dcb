"""The stand-in for api.tokenhot.ai: something to try, to test and to measure against.  Imports no other part of us."""
