"""Before and after: golden traces of one side, kept in a file, and today's code judged by them."""
