"""Tests of nettrim; `support` holds what they share."""
