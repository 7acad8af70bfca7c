"""Tests of edge offloading."""
