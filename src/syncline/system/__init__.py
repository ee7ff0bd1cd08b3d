"""What both ends need of the machine they run on: its clock, locks that die with their process, SQLite files."""
