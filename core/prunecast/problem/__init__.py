"""The search problem and what has been measured of it: the two values that every stage of the search takes."""
