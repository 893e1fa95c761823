"""Caffe's language: its messages, their text and binary forms, old forms upgraded, and databases of Datum."""
