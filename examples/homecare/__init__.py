"""The sample home-care company: a clinic's database, its office, and nurses who lose their signal.

`python -m examples.homecare` (or `make run`) builds the company, starts the real server on it and lets a handful of
nurses work with real replicas. `company` makes the data, `nurse` and `office` are the people, `day` is what happens,
`board` shows it, `proof` compares every device with the source in the end.
"""
