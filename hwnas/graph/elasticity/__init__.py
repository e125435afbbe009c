"""What of a given network can be elastic, found on its operator graph alone.

Everything follows from the operators, their shapes and their names; weights' numbers, torch and spaces are not known.
"""
